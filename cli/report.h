/*
 * report.h - writes the HTML page of --report about what a command did
 */
#ifndef QZ_CLI_REPORT_H
#define QZ_CLI_REPORT_H

#include "results.h"

/* Before the work: whether the page can be written. */
int report_check(const settings *s);
/* After it, when both files of the command lie there. Nothing without --report. */
int report_write(const results *r);

#endif
