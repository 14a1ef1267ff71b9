// The init process of a script: a subreaper (prctl(2)) between this process and the script, which holds the script's process tree together. A process
// that loses its parent there becomes a child of the init process; a new session or environment does not change that.
//
// It is a copy of this process, made by _Fork(3), since an exec of a program of this size takes ten times as long. Other threads of this process may have
// held locks at the fork, so the copy makes nothing but system calls. It shares the memory copy-on-write, and keeps one descriptor.
//
// This process sends it commands of one byte. End of file means that this process has ended: the script may finish, and leftover processes are then killed.

#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum : char { KILL = 'k', END = 'e' };

// The first message of the init process.
struct began {
    int script;
    int fault;
};

// The memory of this process's arguments, which ps(1) shows.
static char *title;
static size_t title_size;

__attribute__((constructor)) static void find_title(int argc, char **argv) {
    if (argc == 0) return;
    title = argv[0];
    title_size = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0]);
}

static void take_name(void) {
    prctl(PR_SET_NAME, CLINUX_INIT, 0, 0, 0);
    if (title_size > 0) memset(title, 0, title_size);
    for (size_t place = 0; place + 1 < title_size && CLINUX_INIT[place] != 0; place++) title[place] = CLINUX_INIT[place];
}

static void on_sigchld(int number) { (void)number; }

// Kills all children if kills is set, and reaps all but the script. Without CONFIG_PROC_CHILDREN it finds none.
// Returns whether there were children other than the script.
static int reap_children(pid_t script, int kills) {
    char text[4096];
    int file = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        if (kills && script > 0) kill(script, SIGKILL);
        return 0;
    }
    // Children that do not fit are found after these have ended.
    ssize_t count = read(file, text, sizeof text);
    close(file);
    int others = 0;
    pid_t child = 0;
    for (ssize_t place = 0; place < count; place++) {
        if (text[place] >= '0' && text[place] <= '9') {
            child = child * 10 + (text[place] - '0');
            continue;
        }
        // The process id is not reused before this function reaps it.
        if (kills) kill(child, SIGKILL);
        if (child != script) {
            others = 1;
            waitpid(child, NULL, WNOHANG);
        }
        child = 0;
    }
    return others;
}

// Waits for the script, sends its status, and exits. Processes that still run then are those that SIGKILL cannot end.
static _Noreturn void end(int control, pid_t script) {
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    int status = 0;
    pid_t ended = 0;
    // For 5 s: a process that traces the script could hold its end back for ever.
    for (int tries = 0; ended == 0 && tries < 1000; tries++)
        if ((ended = waitpid(script, &status, WNOHANG)) == 0) ppoll(NULL, 0, &pause, NULL);
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
    if (ended == script) send(control, &status, sizeof status, MSG_NOSIGNAL);
    _exit(0);
}

static _Noreturn void serve(int control, pid_t script, int is_tied) {
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    sigset_t but_child;
    sigfillset(&but_child);
    sigdelset(&but_child, SIGCHLD);
    int is_orphaned = 0, kills = 0;
    for (;;) {
        int others = reap_children(script, kills);
        if (is_orphaned) {
            pid_t ended;
            while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
                if (ended == script) {
                    kills = 1;
                    script = 0;
                }
            if (ended < 0) _exit(0);
        }
        // SIGCHLD is unblocked only here, so none is lost.
        struct pollfd socket = {.fd = is_orphaned ? -1 : control, .events = POLLIN};
        if (ppoll(&socket, 1, kills && (others || is_orphaned) ? &pause : NULL, &but_child) <= 0) continue;
        char wanted;
        ssize_t count = recv(control, &wanted, 1, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count == 1 && wanted == END) end(control, script);
        if (count == 1) kills = 1;
        if (count <= 0) {
            is_orphaned = 1;
            kills = kills || is_tied;
        }
    }
}

static _Noreturn void become_init(int control, const struct clinux_program *program, int is_tied) {
    const struct sigaction wake = {.sa_handler = on_sigchld};
    struct began began = {0};
    int handle;
    // The script finds its parent under this name.
    take_name();
    // Signals to this process's session or process group must not reach it; all but SIGCHLD stay blocked.
    if (chdir("/") != 0 || setsid() < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0
        || sigaction(SIGCHLD, &wake, NULL) != 0)
        began.fault = errno;
    else
        began.fault = clinux_spawn(&began.script, &handle, program);
    // Only the script keeps its output, reports and directory open.
    if (dup2(control, STDIN_FILENO) < 0 || close_range(1, ~0u, 0) != 0) began.fault = errno;
    send(STDIN_FILENO, &began, sizeof began, MSG_NOSIGNAL);
    if (began.fault != 0 && began.script > 0) kill(began.script, SIGKILL);
    if (began.fault != 0) _exit(0);
    serve(STDIN_FILENO, began.script, is_tied);
}

// Returns whether the whole message was received; if not, the init process has ended.
static int receive(int control, void *message, size_t size) {
    ssize_t count;
    while ((count = recv(control, message, size, 0)) < 0 && errno == EINTR) {
    }
    return count == (ssize_t)size;
}

static void give_up(const struct clinux_init *init) {
    close(init->control);
    while (waitpid(init->process, NULL, 0) < 0 && errno == EINTR) {
    }
}

static void ask(const struct clinux_init *init, char wanted) {
    // A script of the same user may have stopped it.
    kill(init->process, SIGCONT);
    send(init->control, &wanted, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int clinux_spawn_with_init(struct clinux_init *init, int *process, int *handle, const struct clinux_program *program,
                           int is_tied) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return errno;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *init = (struct clinux_init){.process = _Fork(), .control = ends[0]};
    struct began began = {.fault = errno};
    if (init->process == 0) become_init(ends[1], program, is_tied);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (init->process < 0) {
        close(init->control);
        return began.fault;
    }
    // Without a message, it was killed by the script or by another process.
    if (!receive(init->control, &began, sizeof began)) began.fault = ECHILD;
    if (began.fault == 0 && (*handle = clinux_pidfd_open(began.script)) < 0) began.fault = errno;
    if (began.fault != 0) {
        ask(init, KILL);
        give_up(init);
    }
    *process = began.script;
    return began.fault;
}

void clinux_kill_all_of_init(const struct clinux_init *init) { ask(init, KILL); }

int clinux_end_init(const struct clinux_init *init, int *status) {
    ask(init, END);
    int fault = receive(init->control, status, sizeof *status) ? 0 : ECHILD;
    give_up(init);
    return fault;
}
