package descriptors

// Limit is 0: Windows has no limit of handles that a process would
// come to.
func Limit() int { return 0 }

// Open is 0, as no limit is to be kept to.
func Open() int { return 0 }
