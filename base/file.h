/*
 * file.h - making a rename survive a power cut.
 *
 * Runs on: any thread that may wait for a disk, never a worker.
 * Errors: 0 or -errno.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

/* Syncs the directory in which the file has its name. */
int file_sync_directory(const char *file);

#endif
