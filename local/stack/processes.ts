import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Service {
  readonly name: string;
  readonly pid: number;
  readonly exited: Promise<void>;
  stop(): Promise<void>;
}

/** When a service counts as ready: at its first IPC message, or when `ready` resolves. `ready` stops when its signal aborts. */
type Readiness = { ipc: true; ready?: never } | { ipc?: false; ready: (signal: AbortSignal) => Promise<void> };

export type ProcessSpec = Readiness & {
  name: string;
  command: string;
  args: string[];
  /** Working folder; default: this process's. */
  cwd?: string;
  /** The whole environment of the process; default: this process's. */
  env?: NodeJS.ProcessEnv;
  /** Milliseconds; default: 30 s. */
  readyWithin?: number;
  /** Asks the process to end; default: SIGTERM. */
  stopSignal?: NodeJS.Signals;
};

/**
 * Starts a process that writes to `<folder>/logs/<name>.log`. If the launcher dies, `reap` can still find the process. Resolves
 * once it is ready; otherwise stops it and throws an Error with its name and its last lines.
 */
export async function startProcess(folder: string, spec: ProcessSpec): Promise<Service> {
  const { name, command, args } = spec;
  const pidFile = join(folder, 'pids', name);
  const logFile = join(folder, 'logs', `${name}.log`);
  mkdirSync(join(folder, 'pids'), { recursive: true });
  mkdirSync(join(folder, 'logs'), { recursive: true });

  const log = openSync(logFile, 'a');
  const logStart = fstatSync(log).size;
  // A process group of its own: Ctrl-C in the terminal reaches the launcher only, which stops the services in order.
  const child = spawn(command, args, {
    detached: true,
    ...(spec.cwd && { cwd: spec.cwd }),
    env: spec.env ?? process.env,
    stdio: ['ignore', log, log, ...(spec.ipc ? ['ipc' as const] : [])],
  });
  closeSync(log);
  const pid = child.pid;
  if (pid === undefined) {
    const [cause] = await once(child, 'error');
    throw new Error(`${name} did not start: ${cause.message}`, { cause });
  }
  writeFileSync(pidFile, JSON.stringify({ pid, command: commandOf(pid) }));

  let running = true;
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => {
      running = false;
      rmSync(pidFile, { force: true });
      resolve();
    });
  });
  const stop = async () => {
    if (running) signalGroup(pid, spec.stopSignal ?? 'SIGTERM');
    const kill = setTimeout(() => running && signalGroup(pid, 'SIGKILL'), 10_000);
    await exited;
    clearTimeout(kill);
  };

  const waiting = new AbortController();
  const within = spec.readyWithin ?? 30_000;
  try {
    await Promise.race([
      spec.ipc ? once(child, 'message', { signal: waiting.signal }) : spec.ready(waiting.signal),
      exited.then(() => Promise.reject(new Error('exited before it was ready'))),
      sleep(within, undefined, waiting).then(() =>
        Promise.reject(new Error(`was not ready within ${within / 1000} s`)),
      ),
    ]);
  } catch (cause) {
    await stop();
    const lines = readFileSync(logFile).subarray(logStart).toString().trimEnd().split('\n').slice(-15);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error([`${name} ${reason}; the end of ${logFile}:`, ...lines].join('\n'), { cause });
  } finally {
    waiting.abort();
  }
  return { name, pid, exited, stop };
}

/**
 * Kills the processes that an earlier launcher, now dead, left running in this folder, and returns their names. The caller
 * holds the folder's lock. A process is killed only if its command line is the recorded one: pids are reused.
 */
export async function reap(folder: string): Promise<string[]> {
  const names = await readdir(join(folder, 'pids')).catch((): string[] => []);
  const reaped = await Promise.all(
    names.map(async (name) => {
      const file = join(folder, 'pids', name);
      const { pid, command } = readRecord(file);
      const alive = () => command !== '' && commandOf(pid) === command;
      const found = alive();
      if (found) signalGroup(pid, 'SIGTERM');
      for (let waited = 0; alive(); waited += 50) {
        if (waited === 5000) signalGroup(pid, 'SIGKILL');
        if (waited === 8000) throw new Error(`${name} of an earlier start still runs and cannot be killed: pid ${pid}`);
        await sleep(50);
      }
      rmSync(file, { force: true });
      return found ? [name] : [];
    }),
  );
  return reaped.flat();
}

const locks = new Map<string, DatabaseSync>();

/**
 * True if this process now holds `<folder>/<name>.lock`, false if another one does. SQLite uses the kernel's file locks,
 * which are released when the holder dies, by SIGKILL too: there are no stale locks.
 */
export async function holdLock(folder: string, name: string): Promise<boolean> {
  const file = join(folder, `${name}.lock`);
  mkdirSync(folder, { recursive: true });
  const lock = new DatabaseSync(file);
  try {
    lock.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    lock.close();
    if (error instanceof Error && error.message === 'database is locked') return false;
    throw error;
  }
  locks.set(file, lock);
  return true;
}

/** Releases what `holdLock` took; does nothing otherwise. */
export async function releaseLock(folder: string, name: string): Promise<void> {
  const file = join(folder, `${name}.lock`);
  locks.get(file)?.close();
  locks.delete(file);
}

/** Resolves at the first Ctrl-C, SIGTERM or SIGHUP, which then do not end this process. */
export function interruption(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, resolve);
  });
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // It has exited already.
  }
}

/** The command line of a live process, empty when there is none. Some Linux images have no `ps`; macOS has no /proc. */
function commandOf(pid: number): string {
  try {
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    return execFileSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).trim();
  } catch {
    return '';
  }
}

function readRecord(file: string): { pid: number; command: string } {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    // The launcher died while writing the record.
    return { pid: 0, command: '' };
  }
}

/** The resident memory of a process in megabytes; 0 when it doesn't run. */
export function memoryOf(pid: number): number {
  try {
    if (process.platform !== 'linux') return Number(execFileSync('ps', ['-o', 'rss=', '-p', `${pid}`])) / 1024;
    const [, kilobytes] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Math.round(Number(kilobytes ?? 0) / 1024);
  } catch {
    return 0;
  }
}

/** The CPU time that all threads of a process have used so far, or on Linux one of them, in milliseconds, in steps of 10; NaN when it doesn't run. */
export function cpuOf(pid: number, thread?: number): number {
  try {
    if (process.platform !== 'linux') {
      const [minutes, seconds] = execFileSync('ps', ['-o', 'time=', '-p', `${pid}`], { encoding: 'utf8' })
        .split(':')
        .slice(-2);
      return 1000 * (60 * Number(minutes) + Number(seconds));
    }
    const [, fields = ''] = readFileSync(`/proc/${pid}${thread ? `/task/${thread}` : ''}/stat`, 'utf8').split(') ');
    const [utime, stime] = fields.split(' ').slice(11);
    return 10 * (Number(utime) + Number(stime));
  } catch {
    return Number.NaN;
  }
}
