"""Plans by a language model: what it is shown, what it may answer, where each step goes, and the words at the end."""
