/* Writes a file of pseudo-random bytes, the same on every machine: made FILE BYTES SEED
 *
 * The build generates the larger sample files instead of keeping them in the
 * repository. The file is renamed to its final name when it is complete. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int complain(const char *what)
{
    fprintf(stderr, "made: %s: %s\n", what, strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: made FILE BYTES SEED\n");
        return 2;
    }
    char temporary[4096];
    int length = snprintf(temporary, sizeof temporary, "%s.new", argv[1]);
    if (length < 0 || (size_t)length >= sizeof temporary) {
        fprintf(stderr, "made: the name is too long\n");
        return 2;
    }
    unsigned long bytes = strtoul(argv[2], NULL, 10);
    /* xorshift64*: the state must not be 0. */
    uint64_t state = strtoul(argv[3], NULL, 10) * 2 + 1;

    FILE *file = fopen(temporary, "wb");
    if (!file)
        return complain(temporary);
    for (unsigned long i = 0; i < bytes; i++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        putc((int)((state * UINT64_C(0x2545F4914F6CDD1D)) >> 56), file);
    }
    if (ferror(file) | fclose(file))
        return complain(temporary);
    if (rename(temporary, argv[1]) != 0)
        return complain(argv[1]);
    return 0;
}
