// Loaded into the daemon by LD_PRELOAD: ends it with SIGKILL before one of the calls by which it changes directories, as a crash would.
//
// Counted are the calls that take an open directory, which is how the daemon works in accounts' homes; others, such as those of the
// history's database, are not. PROV_CRASH_AT: the number of the call, 1 for the first since the file PROV_CRASH_ARMED exists.
// The number of calls so far is in the file PROV_CRASH_COUNT.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_int calls;

static void point(int directory) {
    const char *armed = getenv("PROV_CRASH_ARMED"), *at = getenv("PROV_CRASH_AT"), *count = getenv("PROV_CRASH_COUNT");
    if (directory == AT_FDCWD || !armed || !at || !count || access(armed, F_OK) != 0) return;
    int number = atomic_fetch_add(&calls, 1) + 1;
    FILE *file = fopen(count, "w");
    if (file) {
        fprintf(file, "%d\n", number);
        fclose(file);
    }
    if (number == atoi(at)) kill(getpid(), SIGKILL);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int renameat2(int old, const char *from, int new, const char *to, unsigned flags) {
    point(old);
    return NEXT(renameat2)(old, from, new, to, flags);
}
int mkdirat(int directory, const char *path, mode_t mode) {
    point(directory);
    return NEXT(mkdirat)(directory, path, mode);
}
int unlinkat(int directory, const char *path, int flags) {
    point(directory);
    return NEXT(unlinkat)(directory, path, flags);
}
int symlinkat(const char *target, int directory, const char *path) {
    point(directory);
    return NEXT(symlinkat)(target, directory, path);
}
int openat(int directory, const char *path, int flags, ...) {
    va_list values;
    va_start(values, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(values, mode_t) : 0;
    va_end(values);
    if (flags & O_CREAT) point(directory);
    return NEXT(openat)(directory, path, flags, mode);
}
