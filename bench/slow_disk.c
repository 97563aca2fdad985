// A library for LD_PRELOAD that makes the disk of a Valkey slow or faulty, and records what would survive a power loss.
//
// It affects only files with ".aof" in their path. The environment variable SLOW_DISK names a folder with the file
// `control`, which holds three 32-bit integers and may change at any time:
//   delay_ms   sleep so long in each fdatasync and fsync, before it is done
//   broken     not 0: each fdatasync and fsync fails with EIO
//   full       not 0: each write fails with ENOSPC
// After each fdatasync and fsync it appends a line to the file `synced` in that folder: the size that the file had when
// the call began, and its path. Only so much of it is certain to be on disk.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 4096

static volatile struct {
  int32_t delay_ms, broken, full;
} *control;
static const char *folder;

static int open_in_folder(const char *name, int flags) {
  char path[PATH_BYTES + 16];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return open(path, flags | O_CLOEXEC, 0600);
}

__attribute__((constructor)) static void begin(void) {
  // Copied, as Valkey overwrites its environment with its title.
  folder = getenv("SLOW_DISK") ? strdup(getenv("SLOW_DISK")) : NULL;
  int file = folder ? open_in_folder("control", O_RDONLY) : -1;
  if (file < 0) return;
  void *mapped = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
  if (mapped != MAP_FAILED) control = mapped;
  close(file);
}

static int is_append_only_file(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_BYTES - 1);
  path[length < 0 ? 0 : length] = 0;
  return strstr(path, ".aof") != NULL;
}

static int sync_slowly(int fd, const char *name) {
  int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  char path[PATH_BYTES], line[PATH_BYTES + 32];
  if (!control || !is_append_only_file(fd, path)) return sync(fd);
  struct stat before;
  fstat(fd, &before);
  struct timespec delay = {control->delay_ms / 1000, control->delay_ms % 1000 * 1000000L};
  nanosleep(&delay, NULL);
  if (control->broken) {
    errno = EIO;
    return -1;
  }
  int failed = sync(fd);
  int record = failed ? -1 : open_in_folder("synced", O_WRONLY | O_CREAT | O_APPEND);
  if (record >= 0) {
    int length = snprintf(line, sizeof line, "%lld %s\n", (long long)before.st_size, path);
    if (write(record, line, length) != length) abort();
    close(record);
  }
  return failed;
}

int fdatasync(int fd) { return sync_slowly(fd, "fdatasync"); }

int fsync(int fd) { return sync_slowly(fd, "fsync"); }

ssize_t write(int fd, const void *data, size_t size) {
  static ssize_t (*really_write)(int, const void *, size_t);
  char path[PATH_BYTES];
  if (!really_write) really_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
  if (control && control->full && is_append_only_file(fd, path)) {
    errno = ENOSPC;
    return -1;
  }
  return really_write(fd, data, size);
}
