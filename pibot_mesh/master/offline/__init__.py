"""The offline engine: sentences to typed plans, and results to answers, with no model and no network.

`sentences` loads the languages, `vocabulary` holds what the live cards can be called, `clauses` cuts a text into
clauses and matches each with hassil, `groups` puts what was left unsaid back into them, `referents` knows what "it" and
"there" are, `finding` which devices are meant, `planning` makes steps of them, `answers` words the results. All of it
is pure and synchronous.

What never acts: a text with a word of negation, and a text in which anything is asked ("is the fan on?", "should I
turn on the fan?"). A polite request ("could you turn on the fan?") is an order, not a question.
"""

from pibot_mesh.master.offline.engine import OfflineEngine
from pibot_mesh.master.offline.refusals import Refusal

__all__ = ["OfflineEngine", "Refusal"]
