/* confine.c - rights given up, one after the other */
#include "tls/signer/confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int confine_memory(void)
{
	const struct rlimit none = {0, 0}, all = {RLIM_INFINITY, RLIM_INFINITY};

	if (setrlimit(RLIMIT_CORE, &none) != 0)
		return -errno;
	/* under a limit, what is allocated later would fail */
	if (setrlimit(RLIMIT_MEMLOCK, &all) != 0)
		return 0;
	return mlockall(MCL_CURRENT | MCL_FUTURE) == 0 ? 1 : -errno;
}

int confine_user(uid_t user, gid_t group)
{
	if (geteuid() == 0 && setgroups(0, NULL) != 0)
		return -errno;
	if (setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0)
		return -errno;
	return user != 0 && setuid(0) == 0 ? -EPERM : 0;
}

#define DENY(call)                                              \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 1), \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

int confine_calls(void)
{
	static struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		/* calls of the x32 kind have numbers of their own */
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		DENY(socket),
		DENY(socketpair),
		DENY(connect),
		DENY(bind),
		DENY(io_uring_setup),
		DENY(execve),
		DENY(execveat),
		DENY(fork),
		DENY(vfork),
		/* its arguments cannot be seen: the C library then takes clone */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone3, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		DENY(ptrace),
		DENY(process_vm_readv),
		DENY(process_vm_writev),
		DENY(pidfd_getfd),
		DENY(memfd_create),
		DENY(setuid),
		DENY(setgid),
		DENY(bpf),
		DENY(perf_event_open),
		DENY(userfaultfd),
		DENY(unshare),
		DENY(mount),
		/* threads, but no processes */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof(rules) / sizeof(rules[0]), rules};

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
		return -errno;
	return 0;
}
