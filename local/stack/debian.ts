/** Packages of Debian's archive, downloaded with apt-get and unpacked, without root and without installing anything. */
import { access, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { findExecutable, read, run } from './programs.ts';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Whether packages can be fetched here at all; of a named suite only on Debian itself. */
export async function hasDebianPackages(suite?: string): Promise<boolean> {
  const tools = await Promise.all([['apt-get'], ['dpkg-deb']].map((name) => findExecutable(name)));
  const keyring =
    suite === undefined ||
    (await access(KEYRING).then(
      () => true,
      () => false,
    ));
  return keyring && tools.every((tool) => tool !== undefined);
}

/**
 * Unpacks packages and what they depend on into a folder. By default those of this machine's release, without the
 * dependencies that are installed here; with `suite` those of that suite of Debian, with every dependency down to libc.
 */
export async function unpackPackages(folder: string, packages: string[], suite?: string): Promise<void> {
  const apt = join(folder, 'apt');
  const archives = join(apt, 'cache/archives');
  await mkdir(join(apt, 'state/lists/partial'), { recursive: true });
  await mkdir(join(archives, 'partial'), { recursive: true });
  const show = process.stderr.isTTY;
  const own = [`Dir::State=${apt}/state`, `Dir::Cache=${apt}/cache`, 'Debug::NoLocking=1'];
  const command = (...settings: string[]) => [
    ...(show ? [] : ['-qq']),
    ...[...own, ...settings].flatMap((setting) => ['-o', setting]),
  ];
  let common = command('Dir::State::status=/var/lib/dpkg/status');
  await run('apt-get', [...common, 'update'], { show });
  if (suite !== undefined) {
    const [list, status] = [join(apt, 'suite.list'), join(apt, 'status')];
    const archive = await archiveOf(common);
    await writeFile(list, `deb [signed-by=${KEYRING}] ${archive} ${suite} main\n`);
    await writeFile(status, '');
    common = command(`Dir::Etc::sourcelist=${list}`, 'Dir::Etc::sourceparts=-', `Dir::State::status=${status}`);
    await run('apt-get', [...common, 'update'], { show });
  }
  await run('apt-get', [...common, 'install', '-y', '--no-install-recommends', '--download-only', ...packages], {
    show,
  });
  for (const file of await readdir(archives)) {
    if (file.endsWith('.deb')) await run('dpkg-deb', ['-x', join(archives, file), folder]);
  }
  await rm(apt, { recursive: true });
}

/** The address of the archive from which this machine's own release of Debian comes. */
async function archiveOf(settings: string[]): Promise<string> {
  const format = ['--format', '$(CODENAME) $(REPO_URI)', 'Created-By: Packages', 'Origin: Debian'];
  const lines = (await read('apt-get', [...settings, 'indextargets', ...format])).split('\n');
  // Security and updates, `bookworm-updates`, have archives of their own.
  const [, archive] = lines.map((line) => /^\w+ (\S+)$/.exec(line)).find((match) => match !== null) ?? [];
  if (archive === undefined) throw new Error('apt-get knows no archive of Debian');
  return archive;
}
