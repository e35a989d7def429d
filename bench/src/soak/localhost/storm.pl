# Below `hpc-proxy exec`: children that bind and connect under a storm of signals, and children that are
# killed while they connect. Asked by a line of standard input; each answer is a line.
#
# A child's signal handler does not restart calls (sigaction(2) without SA_RESTART), as perl's never do.
use strict;
use warnings;
use Errno qw(EALREADY EINTR EISCONN);
use IO::Handle;
use POSIX ();
use Socket;
use Time::HiRes qw(ualarm usleep);

my ($first_port, $ports) = @ARGV;
my $at_once = 8;
STDOUT->autoflush(1);

sub tcp { socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n"; $socket }
sub localhost { pack_sockaddr_in($_[0], INADDR_LOOPBACK) }

# What happened to one server and its client: `ok`, with `i` for each call that was interrupted.
sub serves_itself {
    my ($port) = @_;
    my ($server, $interrupted) = (tcp(), '');
    setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
    until (bind($server, localhost($port))) {
        return "bind: $!" unless $! == EINTR;
        $interrupted .= 'i';
        return 'bind: interrupted for ever' if length $interrupted > 100_000;
    }
    my ($bound, $ip) = unpack_sockaddr_in(getsockname($server));
    return "bound to port $bound" unless $bound == $port && inet_ntoa($ip) =~ /^127\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\./;
    listen($server, 8) or return "listen: $!";
    my $client = tcp();
    until (connect($client, localhost($port))) {
        last if $! == EISCONN;
        return "connect: $!" unless $! == EINTR || $! == EALREADY;
        $interrupted .= 'i';
        return 'connect: interrupted for ever' if length $interrupted > 100_000;
    }
    my $accepted;
    until (accept($accepted, $server)) { return "accept: $!" unless $! == EINTR }
    until (defined syswrite($accepted, "$port\n")) { return "write: $!" unless $! == EINTR }
    my $read;
    until (defined sysread($client, $read, 16)) { return "read: $!" unless $! == EINTR }
    return $read eq "$port\n" ? "ok$interrupted" : "another server answered";
}

sub storm {
    my ($children) = @_;
    my (%pipes, %seen);
    my $interrupted = 0;
    my $reap = sub {
        my ($pid) = @_;
        my $pipe = delete $pipes{$pid} or return;
        my $said = readline($pipe) // 'nothing said';
        chomp $said;
        $interrupted += ($said =~ s/^ok\Ki+$// ? 1 : 0);
        $seen{$said}++;
    };
    for my $child (1 .. $children) {
        $reap->(wait) while keys %pipes >= $at_once;
        pipe(my $read, my $write) or die "pipe: $!\n";
        my $pid = fork // die "fork: $!\n";
        if (!$pid) {
            close $read;
            my $action = POSIX::SigAction->new(sub { }, POSIX::SigSet->new, 0);
            # Perl itself must not be interrupted, only its calls.
            $action->safe(1);
            POSIX::sigaction(POSIX::SIGALRM, $action);
            ualarm(333, 333);
            my $said = serves_itself($first_port + $child % $ports);
            ualarm(0);
            syswrite($write, "$said\n");
            POSIX::_exit(0);
        }
        close $write;
        $pipes{$pid} = $read;
    }
    $reap->(wait) while keys %pipes;
    return join('; ', "interrupted=$interrupted", map { "$_=$seen{$_}" } sort keys %seen);
}

# Its backlog is full, so that whoever connects waits.
sub kills {
    my ($children) = @_;
    my $port = $first_port + $ports;
    my ($server, @queue) = (tcp());
    bind($server, localhost($port)) or return "bind: $!";
    listen($server, 0) or return "listen: $!";
    for (1 .. 2) {
        my $client = tcp();
        $client->blocking(0);
        connect($client, localhost($port));
        push @queue, $client;
    }
    my %alive;
    my $killed = 0;
    for my $child (1 .. $children) {
        my $pid = fork // die "fork: $!\n";
        if (!$pid) {
            connect(tcp(), localhost($port));
            POSIX::_exit(0);
        }
        $alive{$pid} = 1;
        next if keys %alive < $at_once && $child < $children;
        usleep(rand 8000);
        kill 'KILL', keys %alive;
        while (%alive) {
            my $pid = wait;
            $killed++ if ($? & 127) == 9;
            delete $alive{$pid};
        }
    }
    return "killed=$killed";
}

print "ready\n";
while (my $line = <STDIN>) {
    my ($what, $number) = split ' ', $line;
    my $said = $what eq 'storm' ? storm($number)
        : $what eq 'kill' ? kills($number)
        : serves_itself($first_port);
    print "$said\n";
}
