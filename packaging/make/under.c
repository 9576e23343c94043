/* Runs a program that ends when its parent ends: under [-s] PARENT PROGRAM [ARGUMENT]...
 *
 * -s      in a new session, so that Ctrl-C at the terminal does not reach it
 * PARENT  the parent's process id; 0 if unknown
 *
 * A shell script cannot clean up when it is killed with SIGKILL; the kernel then
 * sends the program SIGTERM. This tool executes the program, so the process id
 * that the shell sees is the program's own. A shell starts background jobs with
 * SIGINT ignored; this tool resets that. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int session = argc > 1 && strcmp(argv[1], "-s") == 0;
    char **rest = argv + 1 + session;

    if (argc - 1 - session < 2) {
        fprintf(stderr, "usage: under [-s] PARENT PROGRAM [ARGUMENT]...\n");
        return 2;
    }
    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    if (session && setsid() < 0) {
        fprintf(stderr, "under: no new session: %s\n", strerror(errno));
        return 1;
    }
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) {
        fprintf(stderr, "under: %s\n", strerror(errno));
        return 1;
    }
    /* The parent may have ended before the prctl call. */
    long parent = strtol(rest[0], NULL, 10);
    if (parent != 0 && getppid() != (pid_t)parent)
        return 1;
    execvp(rest[1], rest + 1);
    fprintf(stderr, "under: %s: %s\n", rest[1], strerror(errno));
    return 127;
}
