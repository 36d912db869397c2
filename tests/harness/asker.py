# SPDX-License-Identifier: Apache-2.0
"""A worker that asks others: GET /HOST/PORT/PATH is answered with what that host says to GET /PATH,
or with 502 and why it could not be asked. The difficulty: a name that is unknown may be asked for
further up, where nobody answers; that is given up after four seconds, which the client sees as 502
of the front."""

ASKER = r"""
use IO::Socket::INET; $SIG{TERM} = sub { exit 0 }; $SIG{CHLD} = "IGNORE"; $| = 1;
my $door = IO::Socket::INET->new(Listen => 64, LocalPort => $ENV{PORT}, ReuseAddr => 1) or die $@;
while (my $client = $door->accept) {
    next if fork; # the front keeps connections, on some of which nothing comes yet
    my ($host, $port, $path) = (<$client> // "") =~ m{^GET /([^/ ]+)/(\d+)(/\S*)};
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?$/ }
    my ($status, $body) = ("200 OK", "");
    if ($host) {
        alarm 4;
        my $other = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Timeout => 3);
        print $other "GET $path HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n\r\n" if $other;
        $body = $other ? join("", <$other>) : "no way: $@";
        $status = "502 Bad Gateway" unless $other;
    }
    print $client "HTTP/1.1 $status\r\nConnection: close\r\nContent-Length: ", length $body,
        "\r\n\r\n$body";
    exit 0;
}
"""


def asker(**more):
    """Its configuration as a service: Debian's smallest image has all that it takes."""
    return {
        "image": "debian:bookworm-slim",
        "command": ["perl", "-e", ASKER],
        "port": 8080,
        "pull": "never",
        "idle_timeout": "10m",
        **more,
    }
