"""Tools that come with the agent: files, programs, a memory. Each is made with its settings; none is on by itself."""
