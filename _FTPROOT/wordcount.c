/* Counts lines, words and bytes of standard input: cc wordcount.c && ./a.out <about.txt */

#include <ctype.h>
#include <stdio.h>

int main(void)
{
    unsigned long lines = 0, words = 0, bytes = 0;
    int c, inside = 0;

    while ((c = getchar()) != EOF) {
        bytes++;
        if (c == '\n')
            lines++;
        if (isspace(c)) {
            inside = 0;
        } else if (!inside) {
            inside = 1;
            words++;
        }
    }
    printf("%lu lines, %lu words, %lu bytes\n", lines, words, bytes);
    return 0;
}
