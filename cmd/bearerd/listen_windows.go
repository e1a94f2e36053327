package main

import (
	"errors"
	"io/fs"
	"net"
)

const hasSocketMode = false

var errNoSockets = errors.New("bearerd makes no unix sockets on Windows: they have no mode there, so every user could connect; write e.g. localhost:8080")

func parseSocketPath(string) (string, error) { return "", errNoSockets }

func listenSocket(string, string, fs.FileMode) (net.Listener, error) { return nil, errNoSockets }
