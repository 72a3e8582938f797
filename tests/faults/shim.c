/* A disk that fails on purpose: preloaded into a process, it counts what is written below a folder
 * and lets one of these operations fail, as the file FAULTS_STATE says, which processes share.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { COUNT, FULL, BROKEN, SHORT, KILL };
enum need { NO_ROOM, ROOM }; /* whether a full disk refuses it */

struct state {
    long at;            /* the operation to interrupt, from 1; 0: none */
    long kind;
    atomic_long count;  /* operations so far */
    atomic_long is_full;
    char folder[1000];  /* absolute; empty: nothing is counted */
};
static struct state *state;
static const char *log_file;

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("FAULTS_STATE");
    log_file = getenv("FAULTS_LOG");
    int fd = file ? syscall(SYS_openat, AT_FDCWD, file, O_RDWR) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    state = mapped == MAP_FAILED ? NULL : mapped;
}

static int is_below(const char *path)
{
    size_t length = strlen(state->folder);
    return !strncmp(path, state->folder, length) && (path[length] == '/' || !path[length]);
}

/* The absolute path of an open file, or of a name relative to an open folder or the current one. */
static void resolve(int fd, const char *name, char *path)
{
    char link[64];
    ssize_t length;
    path[0] = 0;
    if (name && name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        length = 0;
    path[length] = 0;
    if (name)
        snprintf(path + length, PATH_MAX - length, "/%s", name);
}

static void note(long number, const char *operation, const char *path)
{
    char line[2 * PATH_MAX];
    int fd = log_file ? syscall(SYS_openat, AT_FDCWD, log_file, O_WRONLY | O_APPEND) : -1;
    int length = snprintf(line, sizeof line, "%ld %s %s\n", number, operation, path);
    if (fd < 0)
        return;
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

/* 0: let it be; 1: half of it; -1: it fails, errno is set. */
static int fault(const char *operation, enum need need, int fd, const char *name)
{
    char path[PATH_MAX];
    long number;
    if (!state || !state->folder[0])
        return 0;
    int before = errno;
    resolve(fd, name, path);
    if (!is_below(path)) {
        errno = before;
        return 0;
    }
    number = atomic_fetch_add(&state->count, 1) + 1;
    note(number, operation, path);
    errno = before;
    if (number == state->at) {
        if (state->kind == KILL)
            syscall(SYS_kill, 0, SIGKILL);
        if (state->kind == BROKEN) {
            errno = EIO;
            return -1;
        }
        atomic_store(&state->is_full, 1);
        if (state->kind == SHORT)
            return 1;
        errno = ENOSPC;
        return -1;
    }
    if (need == ROOM && atomic_load(&state->is_full)) {
        errno = ENOSPC;
        return -1;
    }
    return 0;
}

#define REAL(name) ((__typeof__(name) *)real(#name))
static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

ssize_t write(int fd, const void *data, size_t size)
{
    int what = fault("write", ROOM, fd, NULL);
    return what < 0 ? -1 : syscall(SYS_write, fd, data, what ? size / 2 : size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    int what = fault("pwrite", ROOM, fd, NULL);
    return what < 0 ? -1 : syscall(SYS_pwrite64, fd, data, what ? size / 2 : size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int what = fault("writev", ROOM, fd, NULL);
    if (what > 0)
        return syscall(SYS_write, fd, parts[0].iov_base, parts[0].iov_len / 2);
    return what < 0 ? -1 : syscall(SYS_writev, fd, parts, count);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size)
{
    int what = fault("sendfile", ROOM, to, NULL);
    return what < 0 ? -1 : syscall(SYS_sendfile, to, from, offset, what ? (size + 1) / 2 : size);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size)
{
    return sendfile64(to, from, offset, size);
}

int fsync(int fd)
{
    return fault("fsync", NO_ROOM, fd, NULL) < 0 ? -1 : syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fault("fdatasync", NO_ROOM, fd, NULL) < 0 ? -1 : syscall(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t size)
{
    return fault("ftruncate", ROOM, fd, NULL) < 0 ? -1 : syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

static int open_at(int folder, const char *name, int flags, mode_t mode)
{
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    enum need need = flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? ROOM : NO_ROOM;
    if (writes && fault("open", need, folder, name) < 0)
        return -1;
    return syscall(SYS_openat, folder, name, flags, mode);
}

#define MODE(last)                                          \
    va_list rest;                                           \
    va_start(rest, last);                                   \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest)

int open(const char *name, int flags, ...)
{
    MODE(flags);
    return open_at(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
    MODE(flags);
    return open_at(AT_FDCWD, name, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *name, int flags, ...)
{
    MODE(flags);
    return open_at(folder, name, flags, mode);
}

int openat64(int folder, const char *name, int flags, ...)
{
    MODE(flags);
    return open_at(folder, name, flags | O_LARGEFILE, mode);
}

FILE *fopen64(const char *name, const char *mode)
{
    if (strpbrk(mode, "wa+") && fault("open", ROOM, AT_FDCWD, name) < 0)
        return NULL;
    return REAL(fopen64)(name, mode);
}

FILE *fopen(const char *name, const char *mode)
{
    return fopen64(name, mode);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    if (fault(flags ? "exchange" : "rename", NO_ROOM, to, new) < 0)
        return -1;
    return syscall(SYS_renameat2, from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new)
{
    return renameat2(from, old, to, new, 0);
}

int rename(const char *old, const char *new)
{
    return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    if (fault("link", ROOM, to, new) < 0)
        return -1;
    return syscall(SYS_linkat, from, old, to, new, flags);
}

int link(const char *old, const char *new)
{
    return linkat(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    return fault("mkdir", ROOM, folder, name) < 0 ? -1 : syscall(SYS_mkdirat, folder, name, mode);
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

int unlinkat(int folder, const char *name, int flags)
{
    if (fault("unlink", NO_ROOM, folder, name) < 0)
        return -1;
    return syscall(SYS_unlinkat, folder, name, flags);
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}
