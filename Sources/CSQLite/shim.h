#include <sqlite3.h>

/// Text and bytes that are bound are copied: the macro is a cast that Swift does not import.
static inline sqlite3_destructor_type csqlite_copy(void) { return SQLITE_TRANSIENT; }
