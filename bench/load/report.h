/* Telling the result to a person or a program. See report.c. */
#ifndef BENCH_LOAD_REPORT_H
#define BENCH_LOAD_REPORT_H

#include "bench/load/load.h"

void report_text(const struct options *o, const struct client *c, const struct load_result *r);
void report_json(const struct options *o, const struct client *c, const struct load_result *r);

#endif
