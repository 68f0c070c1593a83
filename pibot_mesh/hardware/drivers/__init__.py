"""What reads real sensors: by the kernel's files, over I2C, and over SPI. Blocking, so it runs in threads."""
