#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T n) {
	while (n > 0) {
		ULONG piece = n > 0x10000000 ? 0x10000000 : (ULONG)n;
		if (!SystemFunction036(data, piece)) return FALSE;
		data += piece;
		n -= piece;
	}
	return TRUE;
}
