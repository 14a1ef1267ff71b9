// Starts a program as a script is to be started, by posix_spawn(3): the calling thread sleeps until the program has begun or has been refused,
// and nothing of this process is copied.

#define _GNU_SOURCE
#include "clinux.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

static int prepare_files(posix_spawn_file_actions_t *files, int folder, int input, int output, int reports) {
    int fault = posix_spawn_file_actions_addfchdir_np(files, folder);
    if (fault == 0) fault = posix_spawn_file_actions_adddup2(files, output, STDOUT_FILENO);
    if (fault == 0) fault = posix_spawn_file_actions_adddup2(files, output, STDERR_FILENO);
    if (fault == 0)
        fault = input < 0 ? posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
                          : posix_spawn_file_actions_adddup2(files, input, STDIN_FILENO);
    // A descriptor that is duplicated onto itself is only kept open.
    for (int place = CLINUX_REPORTS; fault == 0 && reports >= 0 && place < CLINUX_REPORTS_END; place++)
        fault = posix_spawn_file_actions_adddup2(files, reports, place);
    // The last: it closes what the others came from.
    if (fault == 0)
        fault = posix_spawn_file_actions_addclosefrom_np(files, reports < 0 ? STDERR_FILENO + 1 : CLINUX_REPORTS_END);
    return fault;
}

static int prepare_attributes(posix_spawnattr_t *attributes) {
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    int fault = posix_spawnattr_setsigdefault(attributes, &all);
    if (fault == 0) fault = posix_spawnattr_setsigmask(attributes, &none);
    if (fault == 0)
        fault = posix_spawnattr_setflags(
            attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    return fault;
}

int clinux_spawn(int *process, const char *path, char *const *arguments, char *const *environment, int folder, int input,
                 int output, int reports) {
    posix_spawn_file_actions_t files;
    int fault = posix_spawn_file_actions_init(&files);
    if (fault != 0) return fault;
    posix_spawnattr_t attributes;
    fault = posix_spawnattr_init(&attributes);
    if (fault == 0) {
        fault = prepare_files(&files, folder, input, output, reports);
        if (fault == 0) fault = prepare_attributes(&attributes);
        if (fault == 0) fault = posix_spawn(process, path, &files, &attributes, arguments, environment);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&files);
    return fault;
}
