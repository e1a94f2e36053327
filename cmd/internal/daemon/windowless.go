package daemon

import (
	"encoding/binary"
	"errors"
)

// windowless makes a program of Windows for the console one for the desktop, which
// is started without a window: hiding one that is there already flashes. It is one
// field of the header (PE format, optional header, Subsystem), which the linker's
// -H=windowsgui sets to the same.
func windowless(program []byte) error {
	const (
		console, desktop = 3, 2    // IMAGE_SUBSYSTEM_WINDOWS_CUI and _GUI
		pointer          = 0x3c    // where the offset of the PE header stands
		subsystem        = 24 + 68 // in that, in its 32 and in its 64 bit form
	)
	if len(program) < pointer+4 {
		return errNoProgram
	}
	header := int64(binary.LittleEndian.Uint32(program[pointer:]))
	if header+subsystem+2 > int64(len(program)) || string(program[header:header+4]) != "PE\x00\x00" {
		return errNoProgram
	}
	field := program[header+subsystem:]
	if was := binary.LittleEndian.Uint16(field); was != console && was != desktop {
		return errNoProgram
	}
	binary.LittleEndian.PutUint16(field, desktop)
	return nil
}

var errNoProgram = errors.New("no console program of Windows")
