"""Drivers, each against what lies below it: files of the kernel, registers on a bus, bits on SPI pins."""

from __future__ import annotations

import struct
from errno import EIO, EREMOTEIO, ETIMEDOUT
from pathlib import Path
from typing import Any

import pytest
from gpiozero.pins.mock import MockFactory, MockSPIDevice

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError, ToolError
from pibot_mesh.hardware.drivers.driver import driver_for, missing_package
from pibot_mesh.hardware.drivers.i2c import I2CDriver
from pibot_mesh.hardware.drivers.spi import Mcp3xxx
from pibot_mesh.hardware.drivers.sysfs import Dht22, Ds18b20


def probe(kind: str, pin: int | None = None, **options: object) -> DeviceSettings:
    return DeviceSettings("probe", kind, pin, options=options)


# --- What must be installed ---


@pytest.mark.parametrize(
    ("kind", "gone", "says"),
    [
        ("bme280", "bme280", "the driver for bme280 is not installed: run pip install 'pibot-mesh[sensors]'"),
        ("bh1750", "smbus2", "the driver for bh1750 is not installed: run pip install 'pibot-mesh[sensors]'"),
        ("mcp3xxx", "lgpio", "the driver for mcp3xxx is not installed: run pip install 'pibot-mesh[gpio]'"),
        ("bh1750", "bme280", None),
        ("ds18b20", "smbus2", None),
        ("dht22", "smbus2", None),
    ],
)
def test_a_driver_that_is_not_installed_says_what_to_install(kind: str, gone: str, says: str | None) -> None:
    """Only for the kinds that need it; the kernel's drivers need nothing."""
    assert missing_package(kind, lambda module: module != gone) == says


def test_what_is_looked_for_is_what_can_be_imported() -> None:
    """The standard search for modules."""
    assert missing_package("bh1750") is None or "pibot-mesh[sensors]" in str(missing_package("bh1750"))


@pytest.mark.parametrize(
    ("kind", "driver"),
    [("ds18b20", Ds18b20), ("dht22", Dht22), ("mcp3xxx", Mcp3xxx), ("bme280", I2CDriver), ("ads1115", I2CDriver)],
)
def test_making_a_driver_touches_nothing(kind: str, driver: type) -> None:
    """Here there is no bus; it may be closed all the same."""
    made = driver_for(probe(kind))
    assert isinstance(made, driver)
    made.close()


# --- DS18B20: the kernel's 1-Wire files ---

W1_GOOD = "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n"


def thermometers(root: Path, **files: str) -> Path:
    """A tree such as ``/sys/bus/w1``, with the bus master and these thermometers in it."""
    devices = root / "sys/bus/w1/devices"
    (devices / "w1_bus_master1").mkdir(parents=True)
    for name, text in files.items():
        folder = devices / name.replace("_", "-")
        folder.mkdir()
        (folder / "w1_slave").write_text(text)
    return root


def test_the_only_thermometer_needs_no_address(tmp_path: Path) -> None:
    """Below zero, too."""
    thermometers(tmp_path, **{"28_0316a2794bff": W1_GOOD})
    driver = Ds18b20(probe("ds18b20"), root=tmp_path)
    assert driver.read() == {"temperature": 23.125}
    (tmp_path / "sys/bus/w1/devices/28-0316a2794bff/w1_slave").write_text(W1_GOOD.replace("23125", "-10062"))
    assert driver.read() == {"temperature": -10.062}


def test_of_several_thermometers_one_is_named(tmp_path: Path) -> None:
    """Which one was meant is not guessed."""
    thermometers(tmp_path, **{"28_0316a2794bff": W1_GOOD, "28_0316a2794c00": W1_GOOD.replace("23125", "5000")})
    with pytest.raises(ToolError, match="put one of 28-0316a2794bff, 28-0316a2794c00 into 'address'"):
        Ds18b20(probe("ds18b20"), root=tmp_path).read()
    assert Ds18b20(probe("ds18b20", address="28-0316a2794c00"), root=tmp_path).read() == {"temperature": 5.0}


def test_a_bus_that_is_off_or_empty_says_what_to_do(tmp_path: Path) -> None:
    """The first thing that goes wrong with a thermometer."""
    driver = Ds18b20(probe("ds18b20"), root=tmp_path)
    with pytest.raises(ToolError, match="raspi-config nonint do_onewire 0"):
        driver.read()
    thermometers(tmp_path)
    with pytest.raises(ToolError, match=r"check its wires, and the resistor of 4\.7 kΩ"):
        driver.read()


def test_a_thermometer_that_is_gone_is_told_from_those_that_are_there(tmp_path: Path) -> None:
    """A wire broke, or the address has a slip."""
    driver = Ds18b20(probe("ds18b20", address="28-0000000000aa"), root=thermometers(tmp_path))
    with pytest.raises(ToolError, match=r"28-0000000000aa does not answer.*there is nothing"):
        driver.read()
    (tmp_path / "sys/bus/w1/devices/28-0316a2794bff").mkdir()
    with pytest.raises(ToolError, match="there is 28-0316a2794bff: check its wires") as caught:
        driver.read()
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (W1_GOOD.replace("23125", "85000"), "it has not measured yet: it says the 85 °C"),
        (W1_GOOD.replace("YES", "NO"), "the checksum of what it sent is wrong"),
        ("", "the checksum of what it sent is wrong"),
        (f"{'00 ' * 9}: crc=00 YES\n{'00 ' * 9}t=0\n", "nothing but zeros: check the data wire"),
    ],
)
def test_what_a_thermometer_did_not_measure_is_no_reading(tmp_path: Path, text: str, problem: str) -> None:
    """85 °C stands in it when it gets power; zeros have a right checksum."""
    thermometers(tmp_path, **{"28_0316a2794bff": text})
    with pytest.raises(ToolError, match=problem) as caught:
        Ds18b20(probe("ds18b20"), root=tmp_path).read()
    assert caught.value.retryable


# --- DHT22: the kernel's IIO files ---


def hygrometer(root: Path, number: int, pin: int, temperature: str, humidity: str) -> None:
    """One as the kernel's driver shows it; its pin stands in the device tree."""
    folder = root / f"sys/bus/iio/devices/iio:device{number}"
    (folder / "of_node").mkdir(parents=True)
    (folder / "name").write_text("dht11@0\n")
    (folder / "of_node/gpios").write_bytes(struct.pack(">III", 7, pin, 0))
    (folder / "in_temp_input").write_text(f"{temperature}\n")
    (folder / "in_humidityrelative_input").write_text(f"{humidity}\n")


def test_a_dht22_is_found_by_its_pin(tmp_path: Path) -> None:
    """All have the same name; other things that the kernel measures are passed over."""
    hygrometer(tmp_path, 1, 4, "21300", "48700")
    hygrometer(tmp_path, 2, 22, "-5100", "81200")
    adc = tmp_path / "sys/bus/iio/devices/iio:device0"
    adc.mkdir()
    (adc / "name").write_text("ads1015\n")
    assert Dht22(probe("dht22", 22), root=tmp_path).read() == {"temperature": -5.1, "humidity": 81.2}
    assert Dht22(probe("dht22", 4), root=tmp_path).read() == {"temperature": 21.3, "humidity": 48.7}


def test_a_dht22_that_the_kernel_does_not_know_says_which_line_to_add(tmp_path: Path) -> None:
    """With its pin."""
    hygrometer(tmp_path, 0, 4, "21300", "48700")
    with pytest.raises(ToolError, match=r"add the line 'dtoverlay=dht11,gpiopin=17' to /boot/firmware/config\.txt"):
        Dht22(probe("dht22", 17), root=tmp_path).read()


@pytest.mark.parametrize(
    ("failure", "words"),
    [(OSError(EIO, "Input/output error"), "Input/output error"), (OSError(ETIMEDOUT, "timed out"), "timed out")],
)
def test_a_dht22_that_fails_may_be_asked_again(tmp_path: Path, failure: OSError, words: str) -> None:
    """The kernel says EIO for a wrong checksum, and ETIMEDOUT where too few edges came."""
    hygrometer(tmp_path, 0, 4, "21300", "48700")

    def text(path: Path) -> str:
        if path.name == "in_humidityrelative_input":
            raise failure
        return path.read_text("ascii")

    with pytest.raises(ToolError, match=rf"nothing useful came from the DHT22 on GPIO 4 \({words}\)") as caught:
        Dht22(probe("dht22", 4), root=tmp_path, text=text).read()
    assert caught.value.retryable


def test_what_is_no_number_comes_from_no_dht22(tmp_path: Path) -> None:
    """A kernel of another day."""
    hygrometer(tmp_path, 0, 4, "warm", "48700")
    with pytest.raises(ToolError, match="nothing useful came"):
        Dht22(probe("dht22", 4), root=tmp_path).read()


# --- I2C: registers ---

BOSCH_EXAMPLE = struct.pack(
    "<HhhHhhhhhhhh", 27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000
)
"""dig_T1 to dig_P9 of the example in Bosch's datasheet of the BMP280 (BST-BMP280-DS001, section 3.12)."""
RAW_TEMPERATURE, RAW_PRESSURE = 519_888, 415_148
"""Its raw readings. It says what comes of them: 25.08 °C, and 100653 Pa."""
HUMIDITY_CALIBRATION = (75, 362, 0, 313, 50, 30)
"""dig_H1 to dig_H6 as chips have them; the datasheet has no example for humidity."""
RAW_HUMIDITY = 0x6F00


class Registers:
    """A chip with byte registers at one address, and what was written to it."""

    def __init__(self, registers: dict[int, int]) -> None:
        self.registers = registers
        self.written: list[tuple[int, bytes]] = []

    def write(self, register: int, values: bytes) -> None:
        self.written.append((register, values))
        self.registers.update({register + index: value for index, value in enumerate(values)})

    def read(self, register: int, length: int) -> bytes:
        return bytes(self.registers.get(register + index, 0) for index in range(length))


class Bus:
    """What ``smbus2.SMBus`` gives: the chips of a bus by address. Where nobody is, it is EREMOTEIO, as on a Pi."""

    def __init__(self) -> None:
        self.chips: dict[int, Any] = {}
        self.opened: list[int] = []
        self.closed = 0

    def __call__(self, number: int) -> Bus:
        self.opened.append(number)
        return self

    def chip(self, address: int) -> Any:
        if address not in self.chips:
            raise OSError(EREMOTEIO, "Remote I/O error")
        return self.chips[address]

    def close(self) -> None:
        self.closed += 1

    def read_byte_data(self, address: int, register: int) -> int:
        return int(self.chip(address).read(register, 1)[0])

    def read_word_data(self, address: int, register: int) -> int:
        return int.from_bytes(self.chip(address).read(register, 2), "little")

    def read_i2c_block_data(self, address: int, register: int, length: int) -> list[int]:
        return list(self.chip(address).read(register, length))

    def write_byte(self, address: int, value: int) -> None:
        self.chip(address).command(value)

    def write_byte_data(self, address: int, register: int, value: int) -> None:
        self.chip(address).write(register, bytes([value]))

    def write_i2c_block_data(self, address: int, register: int, values: list[int]) -> None:
        self.chip(address).write(register, bytes(values))

    def i2c_rdwr(self, message: Any) -> None:
        for index, value in enumerate(self.chip(message.addr).answer(message.len)):
            message.buf[index] = bytes([value])


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Bus:
    """The bus that the next driver opens."""
    pytest.importorskip("smbus2")
    bus = Bus()
    monkeypatch.setattr("smbus2.SMBus", bus)
    return bus


def no_wait(_: float) -> None:
    """A chip of this file measures at once."""


def bosch(chip_id: int) -> Registers:
    """A chip that holds the datasheet's example."""
    h1, h2, h3, h4, h5, h6 = HUMIDITY_CALIBRATION
    split = bytes([h4 >> 4, (h5 & 0xF) << 4 | h4 & 0xF, h5 >> 4])
    data = (RAW_PRESSURE << 4).to_bytes(3, "big") + (RAW_TEMPERATURE << 4).to_bytes(3, "big")
    image = {
        0x88: BOSCH_EXAMPLE,
        0xA1: bytes([h1]),
        0xD0: bytes([chip_id]),
        0xE1: struct.pack("<hB", h2, h3) + split + bytes([h6]),
        0xF7: data + RAW_HUMIDITY.to_bytes(2, "big"),
    }
    return Registers({start + index: value for start, block in image.items() for index, value in enumerate(block)})


def bosch_humidity(raw: int, t_fine: int) -> float:
    """Bosch's own compensation in whole numbers (BST-BME280-DS001, section 4.2.3), in percent."""
    h1, h2, h3, h4, h5, h6 = HUMIDITY_CALIBRATION
    v = t_fine - 76_800
    v = (((raw << 14) - (h4 << 20) - h5 * v + 16_384) >> 15) * (
        ((((((v * h6) >> 10) * (((v * h3) >> 11) + 32_768)) >> 10) + 2_097_152) * h2 + 8192) >> 14
    )
    v -= ((((v >> 15) * (v >> 15)) >> 7) * h1) >> 4
    return min(max(v, 0), 419_430_400) / (1 << 12) / 1024


@pytest.fixture
def _bme280() -> None:
    pytest.importorskip("bme280")


@pytest.mark.usefixtures("_bme280")
def test_a_bmp280_gives_what_its_datasheet_calculates(bus: Bus) -> None:
    """From the raw readings and the calibration of its example."""
    bus.chips[0x76] = bosch(0x58)
    assert I2CDriver(probe("bmp280")).read() == {"temperature": 25.08, "pressure": 1006.53}


@pytest.mark.usefixtures("_bme280")
def test_a_bme280_gives_the_humidity_of_bosch_s_own_arithmetic(bus: Bus) -> None:
    """Which is in whole numbers, and written by others; 128422 is t_fine in the datasheet's example."""
    bus.chips[0x77] = bosch(0x60)
    values = I2CDriver(probe("bme280", address=0x77)).read()
    assert values["humidity"] == pytest.approx(bosch_humidity(RAW_HUMIDITY, 128_422), abs=0.05)
    assert 20 < values["humidity"] < 80
    assert (values["temperature"], values["pressure"]) == (25.08, 1006.53)


@pytest.mark.usefixtures("_bme280")
def test_each_reading_is_measured_anew(bus: Bus) -> None:
    """The chip sleeps in between (it warms itself otherwise); its calibration is read once."""
    chip = bus.chips[0x76] = bosch(0x60)
    driver = I2CDriver(probe("bme280"))
    cold = driver.read()["temperature"]
    chip.registers.update(enumerate(((RAW_TEMPERATURE + 3000) << 4).to_bytes(3, "big"), 0xFA))
    chip.registers[0x88] = 0
    assert driver.read()["temperature"] == pytest.approx(cold + 0.94, abs=0.05)
    forced = [values[0] & 3 for register, values in chip.written if register == 0xF4]
    assert forced == [1, 1]
    assert bus.opened == [1]


@pytest.mark.usefixtures("_bme280")
@pytest.mark.parametrize(
    ("kind", "chip_id", "problem"),
    [
        ("bme280", 0x58, "there is a BMP280 at 0x76, which measures no humidity: use 'kind: bmp280'"),
        ("bme280", 0x61, "what answers at 0x76 is no BME280: it says to be 0x61"),
    ],
)
def test_another_chip_at_the_address_is_told(bus: Bus, kind: str, chip_id: int, problem: str) -> None:
    """Boards that are sold as the one often carry the other."""
    bus.chips[0x76] = bosch(chip_id)
    with pytest.raises(ToolError, match=problem):
        I2CDriver(probe(kind)).read()
    assert bus.closed == 1


class LightMeter:
    """A BH1750: it takes commands, and answers with the last measurement."""

    def __init__(self, counts: int) -> None:
        self.counts = counts
        self.commands: list[int] = []

    def command(self, value: int) -> None:
        self.commands.append(value)

    def answer(self, length: int) -> bytes:
        return self.counts.to_bytes(length, "big")


def test_a_bh1750_gives_lux(bus: Bus) -> None:
    """Its datasheet's example: 0x8390 is 28067 lx. It is given the time that it needs, at worst, to measure."""
    chip = bus.chips[0x23] = LightMeter(0x8390)
    waits: list[float] = []
    assert I2CDriver(probe("bh1750"), sleep=waits.append).read() == {"illuminance": 28066.7}
    assert chip.commands == [0x20]
    assert waits == [0.18]


class Converter(Registers):
    """An ADS1115 with a voltage at each of its inputs; it needs a while for each conversion."""

    def __init__(self, volts: list[float], looks: int = 1) -> None:
        super().__init__({})
        self._volts = volts
        self._looks = looks
        self._left = 0

    def write(self, register: int, values: bytes) -> None:
        config = int.from_bytes(values, "big")
        assert (register, config >> 15, config >> 14 & 1, config >> 8 & 1) == (1, 1, 1, 1)
        full_scale = (6.144, 4.096, 2.048, 1.024, 0.512, 0.256)[config >> 9 & 7]
        counts = max(-0x8000, min(0x7FFF, round(self._volts[config >> 12 & 3] / full_scale * 0x8000)))
        super().write(0, struct.pack(">h", counts))
        self._left = self._looks

    def read(self, register: int, length: int) -> bytes:
        if register == 1:
            self._left -= 1
            return bytes([0x81 if self._left <= 0 else 0x01, 0x83])
        return self.registers[0].to_bytes(1, "big") + self.registers[1].to_bytes(1, "big")


@pytest.mark.parametrize(("channel", "full_scale_v", "volts"), [(0, 4.096, 3.3), (3, 0.256, 0.1), (1, 6.144, -0.01)])
def test_an_ads1115_gives_the_voltage_of_its_channel(bus: Bus, channel: int, full_scale_v: float, volts: float) -> None:
    """In each range; a little below ground is told as it is."""
    inputs = [1.1, 1.2, 1.3, 1.4]
    inputs[channel] = volts
    bus.chips[0x48] = Converter(inputs, looks=3)
    driver = I2CDriver(probe("ads1115", channel=channel, full_scale_v=full_scale_v), sleep=no_wait)
    assert driver.read()["voltage"] == pytest.approx(volts, abs=0.0002)


def test_an_ads1115_tells_what_its_voltage_stands_for(bus: Bus) -> None:
    """Volts * scale + offset."""
    bus.chips[0x49] = Converter([2.05, 0, 0, 0])
    device = probe("ads1115", address=0x49, measure="moisture", unit="%", scale=-66.667, offset=186.667)
    assert I2CDriver(device, sleep=no_wait).read() == {"moisture": pytest.approx(50.0, abs=0.02)}


@pytest.mark.parametrize(("full_scale_v", "advice"), [(2.048, "choose a higher full_scale_v"), (6.144, "divide")])
def test_a_voltage_above_the_range_is_no_reading(bus: Bus, full_scale_v: float, advice: str) -> None:
    """What is cut off says nothing of how high it is."""
    bus.chips[0x48] = Converter([9.0, 0, 0, 0])
    with pytest.raises(ToolError, match=f"above {full_scale_v} V, which it can tell at most: {advice}"):
        I2CDriver(probe("ads1115", full_scale_v=full_scale_v), sleep=no_wait).read()


def test_an_ads1115_that_never_ends_is_given_up(bus: Bus) -> None:
    """A reading takes no longer than it may."""
    bus.chips[0x48] = Converter([1.0, 0, 0, 0], looks=100)
    waits: list[float] = []
    with pytest.raises(ToolError, match="does not come to an end"):
        I2CDriver(probe("ads1115"), sleep=waits.append).read()
    assert sum(waits) < 0.1


def test_nobody_at_an_address_says_how_to_look(bus: Bus) -> None:
    """And once it is plugged in, it is found: on the bus that is opened anew."""
    driver = I2CDriver(probe("bh1750", address=0x5C), sleep=no_wait)
    with pytest.raises(ToolError, match=r"nothing answers at 0x5c on I2C bus 1 .*'i2cdetect -y 1'") as caught:
        driver.read()
    assert caught.value.retryable
    bus.chips[0x5C] = LightMeter(120)
    assert driver.read() == {"illuminance": 100.0}
    assert (bus.opened, bus.closed) == ([1, 1], 1)
    driver.close()
    driver.close()
    assert bus.closed == 2


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (FileNotFoundError(2, "No such file or directory"), "there is no /dev/i2c-3: turn on I2C: sudo raspi-config"),
        (PermissionError(13, "Permission denied"), "/dev/i2c-3 may not be used: .* sudo usermod -aG i2c"),
    ],
)
def test_a_bus_that_cannot_be_had_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: OSError, advice: str) -> None:
    """The two that everybody meets."""
    pytest.importorskip("smbus2")

    def open_bus(_: int) -> None:
        raise error

    monkeypatch.setattr("smbus2.SMBus", open_bus)
    with pytest.raises(ToolError, match=advice):
        I2CDriver(probe("bh1750", bus=3)).read()


# --- MCP3xxx: bits on SPI pins ---


class MCP(MockSPIDevice):  # type: ignore[misc]  # gpiozero has no types
    """An MCP3x0x on mock pins. It answers after the start bit, the mode and three bits of channel."""

    def __init__(self, counts: dict[int, int], bits: int, factory: Any) -> None:
        super().__init__(11, 10, 9, 8, pin_factory=factory)
        self._counts = counts
        self._bits = bits
        self.is_broken = False

    def on_start(self) -> None:
        super().on_start()
        self._sent = False
        if self.is_broken:
            raise OSError(EIO, "Input/output error")

    def on_bit(self) -> None:
        bits = [int(bit) for bit in self.rx_buf]
        if self._sent or 1 not in bits or len(bits) < bits.index(1) + 5:
            return
        self._sent = True
        start = bits.index(1)
        channel = int("".join(map(str, bits[start + 2 : start + 5])), 2)
        self.tx_word(self._counts[channel] if bits[start + 1] else 0, self._bits + 2)


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> MockFactory:
    """Pins on which gpiozero speaks SPI bit by bit; its bus of software takes them from the global factory."""
    factory = MockFactory()
    monkeypatch.setattr("gpiozero.Device.pin_factory", factory)
    return factory


@pytest.mark.parametrize(
    ("model", "bits", "counts", "volts"),
    [("mcp3008", 10, 341, 1.1), ("mcp3208", 12, 4095, 3.3), ("mcp3004", 10, 0, 0.0)],
)
def test_an_mcp_gives_the_voltage_of_its_channel(
    pins: MockFactory, model: str, bits: int, counts: int, volts: float
) -> None:
    """As a part of the voltage at VREF; the others have others."""
    with MCP({0: 100, 1: 101, 2: counts, 3: 103}, bits, pins):
        driver = Mcp3xxx(probe("mcp3xxx", model=model, channel=2), factory=lambda: pins)
        assert driver.read() == {"voltage": pytest.approx(volts, abs=0.005)}
        assert driver.read() == {"voltage": pytest.approx(volts, abs=0.005)}
        driver.close()


def test_an_mcp_tells_what_its_voltage_stands_for(pins: MockFactory) -> None:
    """With VREF at 5 V."""
    with MCP({0: 512}, 10, pins):
        device = probe("mcp3xxx", volts=5, measure="level", unit="cm", scale=20, offset=-10)
        assert Mcp3xxx(device, factory=lambda: pins).read() == {"level": pytest.approx(40, abs=0.1)}


def test_a_node_without_pins_says_so() -> None:
    """It is asked again later, as any sensor that does not answer."""

    def no_pins() -> Any:
        raise ConfigError(["devices: this machine's GPIO pins cannot be used"])

    with pytest.raises(ToolError, match="this machine's GPIO pins cannot be used"):
        Mcp3xxx(probe("mcp3xxx"), factory=no_pins).read()


def test_an_input_that_fails_is_opened_anew(pins: MockFactory) -> None:
    """Its bus was given back in between."""
    driver = Mcp3xxx(probe("mcp3xxx"), factory=lambda: pins)
    with MCP({0: 1023}, 10, pins) as chip:
        chip.is_broken = True
        with pytest.raises(OSError, match="Input/output error"):
            driver.read()
        chip.is_broken = False
        assert driver.read() == {"voltage": 3.3}
        driver.close()
        driver.close()
