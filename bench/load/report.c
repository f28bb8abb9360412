/*
 * Two forms of the same result: four lines for a person, one JSON object for bench/run.
 * JSON keeps nanoseconds and the whole histogram ([lowest value of the bucket, count]
 * pairs), so that plots can be made later from runs made now.
 */
#include "bench/load/report.h"

#include <stdio.h>
#include <string.h>

static double per(uint64_t value, uint64_t count)
{
	return count ? (double)value / (double)count : 0;
}

static double us(uint64_t ns)
{
	return (double)ns / 1000;
}

void report_text(const struct options *o, const struct client *c, const struct load_result *r)
{
	const struct tally *t = &r->tally;
	const struct hist *h = &t->latency;
	double seconds = (double)r->elapsed_ns / 1e9;

	printf("load     %s %u bytes, %u connection%s x depth %u, %s replies, export of %.6g MiB\n",
	       o->rw, o->block_size, o->connections, o->connections == 1 ? "" : "s", o->depth,
	       reply_style_name(c->agreement.reply_style),
	       (double)c->agreement.info.size / (1 << 20));
	printf("answers  %llu in %.3f s: %.4g k/s, %.4g MiB/s; errors %llu",
	       (unsigned long long)t->requests, seconds, (double)t->requests / seconds / 1000,
	       (double)t->bytes / seconds / (1 << 20), (unsigned long long)t->errors);
	if (t->errors)
		printf(" (first: %s)", strerror(t->first_error));
	if (o->verify != VERIFY_NOTHING)
		printf("; wrong content %llu", (unsigned long long)t->mismatches);
	printf("\nlatency  mean %.1f  p50 %.1f  p99 %.1f  p99.9 %.1f  max %.1f us\n",
	       per(h->sum, h->count) / 1000, us(hist_permille(h, 500)), us(hist_permille(h, 990)),
	       us(hist_permille(h, 999)), us(h->max));
	if (t->flushes)
		printf("flushes  %llu: p50 %.1f  p99 %.1f  max %.1f us\n",
		       (unsigned long long)t->flushes, us(hist_permille(&t->flush_latency, 500)),
		       us(hist_permille(&t->flush_latency, 990)), us(t->flush_latency.max));
	printf("cpu      client %.2f us per request (%.0f %%)",
	       per(r->client_cpu_ns, t->requests) / 1000,
	       100 * per(r->client_cpu_ns, r->elapsed_ns));
	if (o->cpu_of)
		printf(", server %.2f us per request (%.0f %%)",
		       per(r->server_cpu_ns, t->requests) / 1000,
		       100 * per(r->server_cpu_ns, r->elapsed_ns));
	printf("\n");
}

static void json_number(const char *name, uint64_t value)
{
	printf("\"%s\": %llu, ", name, (unsigned long long)value);
}

static void json_histogram(const struct hist *h)
{
	const char *comma = "";

	printf("\"histogram_ns\": [");
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		if (!h->bucket[i])
			continue;
		printf("%s[%llu, %llu]", comma, (unsigned long long)hist_low(i),
		       (unsigned long long)h->bucket[i]);
		comma = ", ";
	}
	printf("]");
}

void report_json(const struct options *o, const struct client *c, const struct load_result *r)
{
	const struct tally *t = &r->tally;
	const struct hist *h = &t->latency;

	printf("{\"rw\": \"%s\", \"replies\": \"%s\", \"fua\": %s, ", o->rw,
	       reply_style_name(c->agreement.reply_style), o->fua ? "true" : "false");
	json_number("read_percent", o->read_percent);
	json_number("block_size", o->block_size);
	json_number("connections", o->connections);
	json_number("depth", o->depth);
	json_number("exports", o->exports);
	json_number("stride", o->stride);
	json_number("flush_every", o->flush_every);
	json_number("threads", o->threads);
	json_number("export_size", c->agreement.info.size);
	json_number("requests", t->requests);
	json_number("bytes", t->bytes);
	json_number("errors", t->errors);
	json_number("first_error", (uint64_t)t->first_error);
	json_number("mismatches", t->mismatches);
	json_number("elapsed_ns", r->elapsed_ns);
	json_number("client_cpu_ns", r->client_cpu_ns);
	if (o->cpu_of)
		json_number("server_cpu_ns", r->server_cpu_ns);
	json_number("latency_mean_ns", (uint64_t)per(h->sum, h->count));
	json_number("latency_p50_ns", hist_permille(h, 500));
	json_number("latency_p99_ns", hist_permille(h, 990));
	json_number("latency_p999_ns", hist_permille(h, 999));
	json_number("latency_max_ns", h->max);
	if (t->flushes) {
		json_number("flushes", t->flushes);
		json_number("flush_p50_ns", hist_permille(&t->flush_latency, 500));
		json_number("flush_p99_ns", hist_permille(&t->flush_latency, 990));
		json_number("flush_max_ns", t->flush_latency.max);
	}
	json_histogram(h);
	printf("}\n");
}
