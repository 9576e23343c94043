/*
 * A switch between network namespaces, with a delay and a rate for each.
 *
 *   switch PREFIX DELAY_MS,RATE_MBIT...
 *
 * Namespace PREFIX1, PREFIX2 and so on has a TUN interface with the address 10.89.0.1, .2 and so
 * on. A packet waits for the delays of both ends, and leaves and arrives at their rates; rate 0 is
 * unlimited. A packet that would wait longer than QUEUE_TIME for a rate is dropped, as by a router.
 * The program prints a line when the hosts are up. It removes them at the end of its input.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull
enum { MAX_HOSTS = 16, MTU = 9000, PACKETS = 1 << 14, BATCH = 64 };
static const uint64_t QUEUE_TIME = 200 * MS;

struct packet {
    uint64_t due;
    size_t length;
    unsigned char data[MTU];
};

/* One end: its interface, its limits, and the packets on the way to it, oldest first. */
struct host {
    int tun;
    uint64_t delay;
    double bytes_per_ns;
    uint64_t sends_again, receives_again;
    struct packet *waiting;
    unsigned first, end;
};

static struct host hosts[MAX_HOSTS];
static int host_count;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void run(int must, const char *prefix, int number, const char *format)
{
    char command[256];
    snprintf(command, sizeof command, format, prefix, number, number);
    if (system(command) != 0 && must) {
        fprintf(stderr, "switch: failed: %s\n", command);
        exit(1);
    }
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 * MS + (uint64_t)time.tv_nsec;
}

/* Opens a TUN interface in a namespace; the descriptor works from outside. */
static int open_tun(const char *prefix, int number)
{
    char path[128];
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(path, sizeof path, "/run/netns/%s%d", prefix, number);
    int home = open("/proc/self/ns/net", O_RDONLY), there = open(path, O_RDONLY);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0) fail("enter namespace");
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    strcpy(request.ifr_name, "net0");
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) < 0) fail("open tun");
    if (setns(home, CLONE_NEWNET) < 0) fail("leave namespace");
    close(home);
    close(there);
    return tun;
}

static void add_host(const char *prefix, const char *limits)
{
    double delay = 0, rate = 0;
    int number = host_count + 1;
    struct host *host = &hosts[host_count++];
    if (sscanf(limits, "%lf,%lf", &delay, &rate) != 2) {
        fprintf(stderr, "switch: not DELAY_MS,RATE_MBIT: %s\n", limits);
        exit(2);
    }
    host->delay = (uint64_t)(delay * (double)MS);
    host->bytes_per_ns = rate * 1e6 / 8 / 1e9;
    host->waiting = calloc(PACKETS, sizeof *host->waiting);
    if (!host->waiting) fail("memory");
    run(1, prefix, number, "ip netns add %s%d");
    host->tun = open_tun(prefix, number);
    run(1, prefix, number, "ip -n %s%d addr add 10.89.0.%d/24 dev net0");
    run(1, prefix, number, "ip -n %s%d link set net0 mtu 9000 txqueuelen 10000 up");
    run(1, prefix, number, "ip -n %s%d link set lo up");
}

/* Returns when a packet that starts at `at` has passed a limit. */
static uint64_t pass(uint64_t *again, uint64_t at, size_t length, double bytes_per_ns)
{
    if (bytes_per_ns <= 0) return at;
    *again = (at > *again ? at : *again) + (uint64_t)((double)length / bytes_per_ns);
    return *again;
}

/* Queues a packet for its destination, or drops it. */
static void forward(struct host *from, const unsigned char *data, size_t length)
{
    if (length < 20 || data[0] >> 4 != 4) return;
    int number = data[19];
    if (data[16] != 10 || data[17] != 89 || number < 1 || number > host_count) return;
    struct host *to = &hosts[number - 1];
    uint64_t began = now();
    if (to->end - to->first == PACKETS || from->sends_again > began + QUEUE_TIME) return;
    if (to->receives_again > began + from->delay + to->delay + QUEUE_TIME) return;
    uint64_t left = pass(&from->sends_again, began, length, from->bytes_per_ns);
    struct packet *packet = &to->waiting[to->end++ % PACKETS];
    packet->due = pass(&to->receives_again, left + from->delay + to->delay, length, to->bytes_per_ns);
    packet->length = length;
    memcpy(packet->data, data, length);
}

/* Delivers what is due; returns when the next packet is. */
static uint64_t deliver(struct host *to, uint64_t next)
{
    for (; to->first != to->end; to->first++) {
        struct packet *packet = &to->waiting[to->first % PACKETS];
        uint64_t time = now();
        if (packet->due > time) return packet->due < next ? packet->due : next;
        if (write(to->tun, packet->data, packet->length) < 0 && errno == EAGAIN) return time;
    }
    return next;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc - 2 > MAX_HOSTS) {
        fprintf(stderr, "usage: switch PREFIX DELAY_MS,RATE_MBIT...\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) add_host(argv[1], argv[i]);
    printf("ready\n");
    fflush(stdout);
    struct pollfd watched[MAX_HOSTS + 1];
    static unsigned char data[MTU];
    for (;;) {
        uint64_t next = now() + 100 * MS;
        for (int i = 0; i < host_count; i++) {
            next = deliver(&hosts[i], next);
            watched[i] = (struct pollfd){.fd = hosts[i].tun, .events = POLLIN};
        }
        watched[host_count] = (struct pollfd){.fd = 0, .events = POLLIN};
        uint64_t time = now(), rest = next > time ? next - time : 0;
        struct timespec pause = {.tv_sec = (time_t)(rest / (1000 * MS)), .tv_nsec = (long)(rest % (1000 * MS))};
        if (ppoll(watched, (nfds_t)host_count + 1, &pause, NULL) <= 0) continue;
        if (watched[host_count].revents && read(0, data, sizeof data) <= 0) break;
        for (int i = 0; i < host_count; i++) {
            if (!(watched[i].revents & POLLIN)) continue;
            for (int n = 0; n < BATCH; n++) {
                ssize_t length = read(hosts[i].tun, data, sizeof data);
                if (length <= 0) break;
                forward(&hosts[i], data, (size_t)length);
            }
        }
    }
    for (int i = 1; i <= host_count; i++) run(0, argv[1], i, "ip netns del %s%d");
    return 0;
}
