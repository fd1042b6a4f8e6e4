/**
 * A mount without root, by fusermount3 (of libfuse). It opens /dev/fuse itself and hands the descriptor over a socket (SCM_RIGHTS), which
 * Node cannot take: a helper in Perl takes it, and passes messages between the device and this process. They tell their own length.
 */

import { spawn, spawnSync } from 'node:child_process';
import { TraplineError } from '../../errors.ts';
import type { Channel } from './channel.ts';
import { FUSE_BUFFER_SIZE } from './server.ts';

const FUSERMOUNT = 'fusermount3';
const UNMOUNT_MS = 5000;
/** recvmsg(2) by the processor's architecture. */
const RECVMSG: Readonly<Record<string, number>> = { x64: 47, arm64: 212 };

/**
 * Arguments: the number of recvmsg(2), the buffer's size, mount options, folder. Messages of the kernel go to standard output, those on
 * standard input to the kernel; when that ends, whoever served the mount is gone, and so is the mount.
 */
const HELPER = String.raw`
use strict; use Socket;
my ($nr, $size, $options, $dir) = @ARGV;
$SIG{$_} = 'IGNORE' for qw(INT HUP TERM PIPE);
$^F = 255;
socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!\n";
my $mounter = fork // die "fork: $!\n";
if (!$mounter) {
  close $ours;
  open STDIN, '<', '/dev/null'; open STDOUT, '>&', \*STDERR;
  $ENV{_FUSE_COMMFD} = fileno $theirs;
  exec '${FUSERMOUNT}', '-o', $options, '--', $dir or exit 127;
}
close $theirs;
my ($byte, $control) = ("\1" x 8, "\1" x 24);
my $vector = pack 'PQ', $byte, 1;
my $message = pack 'QLx4PQPQlx4', 0, 0, $vector, 1, $control, 24, 0;
my $got = syscall $nr + 0, fileno($ours) + 0, $message, 0;
waitpid $mounter, 0;
exit 1 if $? || $got < 1;
my $fd = unpack 'l', substr $control, 16, 4;
open my $device, '+<&=', $fd or die "the descriptor: $!\n";
binmode $_ for $device, \*STDIN, \*STDOUT;
my $writer = fork // die "fork: $!\n";
if (!$writer) {
  while (read(STDIN, my $head, 4) == 4) {
    my $length = unpack 'V', $head;
    last if read(STDIN, my $rest, $length - 4) != $length - 4;
    syswrite $device, $head . $rest;
  }
  open STDERR, '>', '/dev/null';
  exec '${FUSERMOUNT}', '-u', '-z', '-q', '--', $dir;
}
while (1) {
  my $length = sysread $device, my $data, $size;
  if (!defined $length) { next if $!{EINTR} || $!{EAGAIN} || $!{ENOENT}; last }
  last if $length == 0;
  for (my $at = 0; $at < $length; ) {
    my $sent = syswrite STDOUT, $data, $length - $at, $at;
    if (!defined $sent) { next if $!{EINTR}; exit 0 }
    $at += $sent;
  }
}
`;

function answers(command: string, args: readonly string[]): boolean {
  const { error, status } = spawnSync(command, args, { stdio: 'ignore', timeout: UNMOUNT_MS });
  return error === undefined && status === 0;
}

/** Why nothing can be mounted without root; undefined where it can. */
export function fusermountObstacle(): string | undefined {
  if (!answers(FUSERMOUNT, ['-V'])) return `mounting needs root, or ${FUSERMOUNT} (of the package fuse3)`;
  if (RECVMSG[process.arch] === undefined) return `mounting needs root on ${process.arch}`;
  return answers('perl', ['-MSocket', '-MErrno', '-e', '1'])
    ? undefined
    : `mounting needs root, or perl to take what ${FUSERMOUNT} hands over`;
}

/** What fusermount3 takes away: `-z` detaches what is in use. */
export const FUSERMOUNT_DETACH = (target: string): readonly [string, readonly string[]] => [
  FUSERMOUNT,
  ['-u', '-z', '-q', '--', target],
];

/** Mounts at a folder and passes messages. EIO with what fusermount3 says. */
export async function openFusermount(
  target: string,
  allowOther: boolean,
  message: (bytes: Uint8Array) => void,
): Promise<Channel> {
  const options = ['fsname=tracefs', 'subtype=tracefs', 'default_permissions'];
  if (allowOther) options.push('allow_other');
  const args = [String(RECVMSG[process.arch]), String(FUSE_BUFFER_SIZE), options.join(','), target];
  const child = spawn('perl', ['-MErrno', '-e', HELPER, '--', ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  // One that has ended is told by its end.
  child.stdin.on('error', () => undefined);
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', () => resolve('ENODEV'));
  });
  // The kernel's first request says that it is mounted.
  const mounted = new Promise<void>((resolve) => {
    let rest: Buffer = Buffer.alloc(0);
    child.stdout.on('data', (piece: Buffer) => {
      rest = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
      while (rest.length >= 4) {
        const length = rest.readUInt32LE(0);
        if (rest.length < length) break;
        message(new Uint8Array(rest.subarray(0, length)));
        rest = rest.subarray(length);
      }
      resolve();
    });
  });
  const failed = ended.then(() => {
    const reason = stderr.trim().replace(/^fusermount3: /, '') || 'it gave no reason';
    throw new TraplineError('EIO', `${FUSERMOUNT}: ${reason}`, hintOf(reason));
  });
  await Promise.race([mounted, failed]);
  failed.catch(() => undefined);
  return {
    ended,
    send: (bytes) => void child.stdin.write(bytes),
    close: () => void child.stdin.end(),
  };
}

function hintOf(reason: string): { hint?: string } {
  return reason.includes('allow_other')
    ? {
        hint: 'user_allow_other in /etc/fuse.conf permits it; without allow_other only you can use the folder',
      }
    : {};
}
