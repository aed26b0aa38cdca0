/*
 * Children, which are never there on Windows: fork() in unistd.h skips the test that asks for one.
 */
#ifndef QZ_EMULATED_WAIT_H
#define QZ_EMULATED_WAIT_H

#define waitpid(child, status, how) (*(status) = 0, (child))
#define WIFEXITED(status)           ((status) == 0)
#define WEXITSTATUS(status)         (status)
#define WIFSIGNALED(status)         ((status) != 0)
#define WTERMSIG(status)            (status)

#endif
