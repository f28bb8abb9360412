/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A ring where resources are short: little memory may be locked, few
 * descriptors are free, address space is limited.  It shrinks, it does not fail.
 *
 * Each test is a child that limits itself; as root it first becomes nobody, as
 * root is not limited.
 */
#include "test-ring-common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define NOBODY 65534

/* Sanitizers want terabytes of address space. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static void become_limited(int resource, rlim_t limit)
{
	struct rlimit both = { limit, limit };

	if (getuid() == 0 && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		_exit(77);
	if (setrlimit((__rlimit_resource_t)resource, &both) < 0)
		_exit(77);
}

static void in_a_child(void (*test)(void))
{
	pid_t child;
	int status;

	(void)fflush(NULL);
	child = fork();
	if (child == 0) {
		test();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Not cmocka's asserts: those would go on in the child with the other tests. */
#define check(condition)                                                                      \
	do {                                                                                  \
		if (!(condition)) {                                                           \
			(void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                             \
		}                                                                             \
	} while (0)

static struct nr_ring *create(size_t arena, size_t pinned)
{
	struct nr_ring_options options = { .arena_bytes = arena, .pinned_bytes = pinned };
	struct nr_error error = { 0 };
	struct nr_ring *ring = NULL;
	int result = nr_ring_create(&ring, &options, &error);

	/* The kernel takes its time to give back what the test before was charged. */
	for (int i = 0; result == -ENOMEM && i < 20; i++)
		result = nr_ring_create(&ring, &options, &error);
	if (result < 0) {
		(void)fprintf(stderr, "%s\n", error.text);
		_exit(1);
	}
	return ring;
}

/* The arena serves, whatever part of it is registered. */
static void use(struct nr_ring *ring)
{
	struct nr_arena *arena = nr_ring_arena(ring);
	char *first = nr_arena_get(arena, 65536, NR_BLOCK_LAYER);
	char *second = nr_arena_get(arena, MIB, NR_BLOCK_LAYER);
	struct operation o;
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	check(first && second && fd >= 0);
	operation_init(&o);
	nr_ring_read(ring, &o.c, fd, first, 4096, 0);
	while (!o.ended)
		nr_ring_turn(ring, true);
	check(o.result == 4096 && memcmp(first, "\177ELF", 4) == 0);
	nr_ring_read(ring, &o.c, fd, second, 4096, 0);
	while (o.ended < 2)
		nr_ring_turn(ring, true);
	check(o.result == 4096 && memcmp(second, first, 4096) == 0);
	nr_arena_release(arena, first);
	nr_arena_release(arena, second);
	close(fd);
}

static void eight_mebibytes(void)
{
	struct nr_ring *ring;
	size_t registered;

	become_limited(RLIMIT_MEMLOCK, 8 * MIB);
	ring = create(64 * MIB, 32 * MIB);
	registered = nr_ring_report(ring)->registered_bytes;
	check(registered <= 8 * MIB && registered % (2 * MIB) == 0);
	use(ring);
	nr_ring_destroy(ring);
}

static void sixty_four_kibibytes(void)
{
	struct nr_ring *ring;

	become_limited(RLIMIT_MEMLOCK, 65536);
	ring = create(64 * MIB, 32 * MIB);
	check(nr_ring_report(ring)->registered_bytes == 0);
	use(ring);
	nr_ring_destroy(ring);
}

/* Where the ring itself counts there is none, and a sentence that says so. */
static void nothing_at_all(void)
{
	struct nr_ring_options options = { 0 };
	struct nr_error error = { 0 };
	struct nr_ring *ring = NULL;
	int result;

	become_limited(RLIMIT_MEMLOCK, 0);
	result = nr_ring_create(&ring, &options, &error);
	if (result < 0) {
		check(result == -ENOMEM && strstr(error.text, "LimitMEMLOCK"));
		return;
	}
	check(nr_ring_report(ring)->registered_bytes == 0);
	use(ring);
	nr_ring_destroy(ring);
}

static void few_descriptors(void)
{
	struct nr_ring *ring;
	int pair[2];

	become_limited(RLIMIT_NOFILE, 16);
	ring = create(64 * MIB, 2 * MIB);
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	nr_ring_adopt(ring, pair[0]);
	use(ring);
	nr_ring_forget(ring, pair[0]);
	nr_ring_destroy(ring);
}

static void no_descriptors(void)
{
	struct nr_ring_options options = { 0 };
	struct nr_error error = { 0 };
	struct nr_ring *ring = NULL;

	become_limited(RLIMIT_NOFILE, 3);
	check(nr_ring_create(&ring, &options, &error) == -EMFILE);
	check(strlen(error.text) > 0 && !ring);
}

#ifndef SANITIZED
static void little_address_space(void)
{
	struct nr_ring *ring;

	become_limited(RLIMIT_AS, 128 * MIB);
	ring = create(1024 * MIB, 2 * MIB);
	check(nr_arena_capacity(nr_ring_arena(ring)) < 128 * MIB);
	check(nr_arena_capacity(nr_ring_arena(ring)) >= 64 * MIB);
	use(ring);
	nr_ring_destroy(ring);
}

/* An arena that one request of a client can fill leaves nothing to answer it with. */
static void too_little_address_space(void)
{
	struct nr_ring_options options = { 0 };
	struct nr_error error = { 0 };
	struct nr_ring *ring = NULL;

	become_limited(RLIMIT_AS, 60 * MIB);
	check(nr_ring_create(&ring, &options, &error) == -ENOMEM);
	check(strstr(error.text, "address space") && !ring);
}

static void little_address_space_makes_a_small_arena(void **state)
{
	(void)state;
	in_a_child(little_address_space);
}

static void no_arena_is_smaller_than_its_owner_needs(void **state)
{
	(void)state;
	in_a_child(too_little_address_space);
}
#endif

static void a_small_limit_registers_less(void **state)
{
	(void)state;
	in_a_child(eight_mebibytes);
}

static void a_tiny_limit_registers_nothing(void **state)
{
	(void)state;
	in_a_child(sixty_four_kibibytes);
	in_a_child(nothing_at_all);
}

static void few_descriptors_suffice(void **state)
{
	(void)state;
	in_a_child(few_descriptors);
}

static void no_descriptors_is_an_error_with_a_sentence(void **state)
{
	(void)state;
	in_a_child(no_descriptors);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_small_limit_registers_less),
		cmocka_unit_test(a_tiny_limit_registers_nothing),
		cmocka_unit_test(few_descriptors_suffice),
		cmocka_unit_test(no_descriptors_is_an_error_with_a_sentence),
#ifndef SANITIZED
		cmocka_unit_test(little_address_space_makes_a_small_arena),
		cmocka_unit_test(no_arena_is_smaller_than_its_owner_needs),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
