package main

// inherit: Windows has nothing like LISTEN_FDS.
func inherit([]string, Config) (inherited, error) { return inherited{}, nil }
