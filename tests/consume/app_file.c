/* Uses the file library, and the core library through it. */
#include <quantize.h>
#include <quantize_file.h>
#include <stdio.h>

int main(void)
{
    printf("%s\n", qz_version());
    return 0;
}
