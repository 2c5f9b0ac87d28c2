/* A disk that fails: preloaded into a process, it lets calls that write below FAILING_DISK fail from the FAILING_FROM-th
 * on, with the error FAILING_ERRNO. FAILING_COUNT, a file, takes one byte per call, so that calls can be counted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long calls;

static int is_below(const char *path) {
    const char *folder = getenv("FAILING_DISK");
    char absolute[PATH_MAX];
    if (!folder || !path)
        return 0;
    if (path[0] != '/' && getcwd(absolute, sizeof absolute - strlen(path) - 2)) {
        strcat(strcat(absolute, "/"), path);
        path = absolute;
    }
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int is_file_below(int fd) {
    char link[64], path[PATH_MAX];
    if (!getenv("FAILING_DISK"))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return path[0] == '/' && is_below(path); /* pipes and sockets have other names */
}

static int fails(void) {
    long call = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    const char *from = getenv("FAILING_FROM"), *count = getenv("FAILING_COUNT");
    if (count) {
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
        ssize_t (*put)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        int fd = real(count, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (fd >= 0 && put(fd, ".", 1) == 1)
            close(fd);
    }
    if (!from || call < atol(from))
        return 0;
    errno = atoi(getenv("FAILING_ERRNO"));
    return 1;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    return is_file_below(fd) && fails() ? -1 : REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return is_file_below(fd) && fails() ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return is_file_below(fd) && fails() ? -1 : REAL(pwrite64)(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_file_below(fd) && fails() ? -1 : REAL(writev)(fd, parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    return is_file_below(fd) && fails() ? -1 : REAL(pwritev)(fd, parts, count, at);
}
int fsync(int fd) { return is_file_below(fd) && fails() ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return is_file_below(fd) && fails() ? -1 : REAL(fdatasync)(fd); }
int mkdir(const char *path, mode_t mode) { return is_below(path) && fails() ? -1 : REAL(mkdir)(path, mode); }
int rename(const char *from, const char *to) { return is_below(to) && fails() ? -1 : REAL(rename)(from, to); }

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...) {                                       \
        va_list more;                                                                  \
        va_start(more, flags);                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;        \
        va_end(more);                                                                  \
        if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && is_below(path) && fails())      \
            return -1;                                                                 \
        return REAL(name)(path, flags, mode);                                          \
    }
OPEN(open)
OPEN(open64)
FILE *fopen(const char *path, const char *mode) {
    return mode[0] != 'r' && is_below(path) && fails() ? NULL : REAL(fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    return mode[0] != 'r' && is_below(path) && fails() ? NULL : REAL(fopen64)(path, mode);
}
