package main

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// ownsConsole reports whether nobody else uses the console, as where the program was
// started by a double click: a shell would.
func ownsConsole() bool {
	var processes [2]uint32
	list := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetConsoleProcessList")
	if list.Find() != nil {
		return false
	}
	n, _, _ := list.Call(uintptr(unsafe.Pointer(&processes[0])), uintptr(len(processes)))
	return n == 1
}
