/* A disk that fails, for one process: preloaded, it lets calls on files below a directory fail with EIO while a control file exists.
 *
 * BELLWETHER_FAULT_DIR      below which files fail
 * BELLWETHER_FAULT_CONTROL  the control file; its first letter says what fails: (s)ync, (w)rite or (r)ead
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* System calls and not the C library's functions: those are what is replaced here. */
static char control(void) {
  const char *path = getenv("BELLWETHER_FAULT_CONTROL");
  if (path == NULL) return 0;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
  if (fd < 0) return 0;
  char what = 0;
  if (syscall(SYS_read, fd, &what, 1) != 1) what = 0;
  syscall(SYS_close, fd);
  return what;
}

static int fails(int fd, char kind) {
  int before = errno;
  int hit = 0;
  const char *dir = getenv("BELLWETHER_FAULT_DIR");
  if (dir != NULL && control() == kind) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0) {
      path[length] = 0;
      hit = strncmp(path, dir, strlen(dir)) == 0;
    }
  }
  errno = hit ? EIO : before;
  return hit;
}

int fsync(int fd) { return fails(fd, 's') ? -1 : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return fails(fd, 's') ? -1 : (int)syscall(SYS_fdatasync, fd); }

ssize_t write(int fd, const void *from, size_t count) {
  return fails(fd, 'w') ? -1 : syscall(SYS_write, fd, from, count);
}
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
  return fails(fd, 'w') ? -1 : syscall(SYS_pwrite64, fd, from, count, at);
}
ssize_t pwrite(int fd, const void *from, size_t count, off_t at) {
  return pwrite64(fd, from, count, at);
}
ssize_t pread64(int fd, void *to, size_t count, off64_t at) {
  return fails(fd, 'r') ? -1 : syscall(SYS_pread64, fd, to, count, at);
}
ssize_t pread(int fd, void *to, size_t count, off_t at) { return pread64(fd, to, count, at); }
