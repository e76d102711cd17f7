/* SPDX-License-Identifier: ISC */

/*
 * cpeer is the C side of the benchmark: the same work as the Go side, done
 * with the imsg functions of OpenBSD's libutil.  Descriptor 3 is the channel.
 *
 *	cpeer serve case size	answers until the other end closes
 *	cpeer drive case size	prints "ready"; for every number N on stdin does
 *				N operations and prints the nanoseconds they took
 *
 * On OpenBSD: cc -O2 -o cpeer cpeer.c -lutil
 */

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <imsg.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHANNEL		3
#define BATCH_BYTES	131072	/* stream: bytes queued before a flush */
#define FILE_BATCH	64	/* file: messages queued before a flush */
#define FILE_WINDOW	512	/* file: most descriptors in flight */

enum { DATA = 1, SYNC = 2 };	/* message types */
enum { STREAM, SEND, PINGPONG, PINGPONG_BLOCK, PASS_FILE };	/* cases */
static const char *const cases[] = {
	"stream", "send", "pingpong", "pingpong-block", "file"
};

struct peer {
	struct imsgbuf	 ibuf;
	int		 what;		/* index into cases */
	size_t		 size;		/* payload bytes of a DATA message */
	char		*payload;
	int		 devnull;
};

static uint64_t
number(const char *s, uint64_t max)
{
	char		*end;
	uint64_t	 n;

	errno = 0;
	n = strtoull(s, &end, 10);
	if (!isdigit((unsigned char)*s) || *end != '\0' || errno != 0 || n > max)
		errx(1, "bad number: %s", s);
	return n;
}

static void
setup(struct peer *p, const char *name, const char *size)
{
	int	flags;

	for (p->what = STREAM; strcmp(name, cases[p->what]) != 0; p->what++)
		if (p->what == PASS_FILE)
			errx(1, "unknown case: %s", name);
	p->size = number(size, MAX_IMSGSIZE - IMSG_HEADER_SIZE);
	if ((p->payload = calloc(1, p->size + 1)) == NULL)
		err(1, "calloc");

	/* Whoever started us may have left the socket in either mode. */
	if ((flags = fcntl(CHANNEL, F_GETFL)) == -1)
		err(1, "descriptor %d", CHANNEL);
	flags = p->what == PINGPONG ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	if (fcntl(CHANNEL, F_SETFL, flags) == -1)
		err(1, "F_SETFL");

	if (imsgbuf_init(&p->ibuf, CHANNEL) == -1)
		err(1, "imsgbuf_init");
	if (p->what == PASS_FILE) {
		imsgbuf_allow_fdpass(&p->ibuf);
		if ((p->devnull = open("/dev/null", O_RDONLY)) == -1)
			err(1, "/dev/null");
	}
}

/* Reads what has arrived, waiting for it; 0 when the other end closed. */
static int
fill(struct peer *p)
{
	struct pollfd	pfd = { .fd = CHANNEL, .events = POLLIN };
	int		n;

	if (p->what == PINGPONG)
		while (poll(&pfd, 1, -1) == -1)
			if (errno != EINTR)
				err(1, "poll");
	if ((n = imsgbuf_read(&p->ibuf)) == -1)
		err(1, "imsgbuf_read");
	return n;
}

/* Takes the next message that has been read; 0 when there is none. */
static int
next(struct peer *p, struct imsg *m)
{
	uint32_t	type;
	int		n;

	if ((n = imsgbuf_get(&p->ibuf, m)) == -1)
		err(1, "imsgbuf_get");
	if (n == 0)
		return 0;
	type = imsg_get_type(m);
	if ((type != DATA || imsg_get_len(m) != p->size) &&
	    (type != SYNC || imsg_get_len(m) != 0))
		errx(1, "type %u, %zu bytes", type, imsg_get_len(m));
	return 1;
}

static void
queue(struct peer *p, uint32_t type, int fd, const void *data)
{
	size_t	size = type == DATA ? p->size : 0;

	if (imsg_compose(&p->ibuf, type, 0, 0, fd, data, size) == -1)
		err(1, "imsg_compose");
}

/* Would spin on a full non-blocking socket; pingpong never fills it. */
static void
flush(struct peer *p)
{
	if (imsgbuf_flush(&p->ibuf) == -1)
		err(1, "imsgbuf_flush");
}

static void
serve(struct peer *p)
{
	struct imsg	m;
	int		fd;

	while (fill(p) != 0)
		while (next(p, &m)) {
			if (imsg_get_type(&m) == SYNC || p->what == PINGPONG ||
			    p->what == PINGPONG_BLOCK) {
				queue(p, imsg_get_type(&m), -1, m.data);
				flush(p);
			} else if (p->what == PASS_FILE) {
				if ((fd = imsg_get_fd(&m)) == -1)
					errx(1, "message without descriptor");
				close(fd);
			}
			imsg_free(&m);
		}
}

/* Sends one message and waits until it came back. */
static void
roundtrip(struct peer *p, uint32_t type)
{
	struct imsg	m;

	queue(p, type, -1, p->payload);
	flush(p);
	do {
		if (fill(p) == 0)
			errx(1, "server closed the channel");
	} while (next(p, &m) == 0);
	if (imsg_get_type(&m) != type)
		errx(1, "type %u, want %u", imsg_get_type(&m), type);
	imsg_free(&m);
}

/* Sends n messages one way, flushing after each batch. */
static void
oneway(struct peer *p, uint64_t n, uint64_t batch)
{
	uint64_t	i;
	int		fd = -1;

	for (i = 1; i <= n; i++) {
		/* imsg_compose takes the descriptor over: a new one each. */
		if (p->what == PASS_FILE && (fd = dup(p->devnull)) == -1)
			err(1, "dup");
		queue(p, DATA, fd, p->payload);
		if (i % batch == 0)
			flush(p);
		if (p->what == PASS_FILE && i % FILE_WINDOW == 0 && i < n)
			roundtrip(p, SYNC);
	}
	roundtrip(p, SYNC);
}

static uint64_t
now(void)
{
	struct timespec	ts;

	if (clock_gettime(CLOCK_MONOTONIC, &ts) == -1)
		err(1, "clock_gettime");
	return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void
drive(struct peer *p)
{
	char		line[64];
	uint64_t	batch = 1, i, n, start;

	/* The largest message is an eighth of BATCH_BYTES: at least 8. */
	if (p->what == STREAM)
		batch = BATCH_BYTES / (p->size + IMSG_HEADER_SIZE);
	else if (p->what == PASS_FILE)
		batch = FILE_BATCH;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		n = number(line, UINT64_MAX);
		start = now();
		if (p->what == PINGPONG || p->what == PINGPONG_BLOCK)
			for (i = 0; i < n; i++)
				roundtrip(p, DATA);
		else
			oneway(p, n, batch);
		printf("%llu\n", (unsigned long long)(now() - start));
	}
	if (ferror(stdin) || ferror(stdout))
		errx(1, "stdin or stdout failed");
}

int
main(int argc, char *argv[])
{
	static struct peer p;
	void		(*run)(struct peer *);

	if (argc != 4 || (strcmp(argv[1], "serve") != 0 &&
	    strcmp(argv[1], "drive") != 0))
		errx(1, "usage: cpeer serve|drive case size");
	run = strcmp(argv[1], "serve") == 0 ? serve : drive;
	signal(SIGPIPE, SIG_IGN);	/* an error with a text instead */
	setup(&p, argv[2], argv[3]);
	run(&p);
	return 0;
}
