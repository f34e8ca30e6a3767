//! The examples under each command's help; the manual pages carry them too.

/// Under `vaultfs --help`.
pub(super) const TOP: &str = "\
A backup's address is its path in the mount: servers/web-01/2026-11-20T03-00-00Z,
or servers/web-01/latest for the newest.

First steps:
  vaultfs init /srv/vault
  vaultfs backup /srv/vault server web-01 --disk vda=/dev/vg0/web-01
  vaultfs mount /srv/vault /mnt/backups
  ls /mnt/backups/servers/web-01/latest/disks

Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  backed-up data is corrupt or missing
  4  the vault cannot be reached
  5  done in part

RUST_LOG=info (or debug) tells more, on standard error.";

/// Under `vaultfs init --help`.
pub(super) const INIT: &str = "\
Examples:
  vaultfs init /srv/vault
  vaultfs init /srv/vault --name site-a --tag owner=ops --chunk-size 64KiB

Small chunks make 4 KiB random reads faster and changes smaller, large chunks compress better.
The chunk size cannot be changed later.";

/// Under `vaultfs backup --help` and its two kinds.
pub(super) const BACKUP: &str = "\
Examples:
  vaultfs backup /srv/vault server web-01 --disk vda=/dev/vg0/web-01 --disk vdb=/dev/vg0/web-01-data
  vaultfs backup /srv/vault server web-01 --disk vda=web.qcow2 --format vda=qcow2 --backing vda=base.qcow2 \\
      --facts server.json --tag env=prod --consistency application \\
      --before 'virsh domfsfreeze web-01' --after 'virsh domfsthaw web-01'
  vaultfs backup /srv/vault disk db-data /dev/vg0/db-data --at 2026-11-20T03-00-00Z

Only what the vault does not hold yet is stored; every backup is complete by itself.
A source must not change while it is read: give a snapshot, or freeze it with --before.";

/// Under `vaultfs backup VAULT filesystem --help`.
pub(super) const BACKUP_FILESYSTEM: &str = "\
Examples:
  vaultfs backup /srv/vault filesystem home /home --exclude-caches -e '*.o' -e '/*/Downloads/'
  vaultfs backup /srv/vault filesystem share /mnt/share --exclude-from patterns --exclude-if-present .nobackup
  vaultfs backup /srv/vault filesystem home /mnt/snap --consistency crash \\
      --before 'lvcreate -s -L 10G -n snap vg0/home && mount -o ro /dev/vg0/snap /mnt/snap' \\
      --after 'umount /mnt/snap; lvremove -fy vg0/snap'

Files whose inode, size and times are those of the last backup are not read again (--force-rehash reads all).
A file that cannot be read, vanishes or changes while it is read is named; the rest is backed up, and the exit code is 5.
Patterns are those of .gitignore: the last one that matches counts, and ! takes back.";

/// Under `vaultfs list --help`.
pub(super) const LIST: &str = "\
Examples:
  vaultfs list /srv/vault
  vaultfs list /srv/vault servers/web-01
  vaultfs list /srv/vault servers/web-01/2026-11 --json | jq -r '.backups[].address'
  vaultfs list /srv/vault --deleted
  vaultfs list /srv/vault servers/web-01 --space

LOGICAL is the size of the disks or files, DATA what is not holes, NEW what the backup added to the vault.
With --space: UNIQUE is what only this backup needs, in stored bytes: what becomes free when it alone is
deleted and pruned. SHARED is what other backups need, too.";

/// Under `vaultfs show --help`.
pub(super) const SHOW: &str = "\
Examples:
  vaultfs show /srv/vault servers/web-01/latest
  vaultfs show /srv/vault disks/db-data/2026-11-20T03-00-00Z --json | jq .tags
  vaultfs show /srv/vault filesystems/home/latest --json | jq '.tree.problems[].path'
  vaultfs show /srv/vault servers/web-01/latest --space";

/// Under `vaultfs mount --help`.
pub(super) const MOUNT: &str = "\
Examples:
  vaultfs mount /srv/vault /mnt/backups
  vaultfs mount /srv/vault /mnt/backups -f -o cache=1GiB,allow_other
  mount -t vaultfs /srv/vault /mnt/backups -o allow_other
  vaultfs mount s3://backups/main /mnt/backups --max-egress 20GiB
  vaultfs mount s3://backups/main /mnt/backups -o offline

In /etc/fstab:
  /srv/vault  /mnt/backups  vaultfs  allow_other,nofail  0  0

The command returns when the mount is ready. The mount is always read-only.";

/// Under `vaultfs umount --help`.
pub(super) const UMOUNT: &str = "\
Examples:
  vaultfs umount /mnt/backups
  vaultfs umount /mnt/backups --lazy";

/// Under `vaultfs restore --help`.
pub(super) const RESTORE: &str = "\
Examples:
  vaultfs restore /srv/vault servers/web-01/latest --disk vda --to web-01.img
  vaultfs restore /srv/vault servers/web-01/latest --disk vda --to /dev/vg0/web-01 --force
  vaultfs restore /srv/vault disks/db-data/latest --to db.qcow2 --format qcow2
  vaultfs restore /srv/vault filesystems/home/latest --to /mnt/new-home
  vaultfs restore /srv/vault filesystems/home/latest --to /home --force --include ann/Documents
  vaultfs restore /srv/vault filesystems/home/latest --to /home --force --delete --dry-run

Onto something that exists, only the parts that differ are written. What was written to a disk is read back and verified.
A file has its name only when it is complete, and its old content until then. A file of equal size and time is taken as
equal unless --checksum is given; attributes are compared in any case.";

/// Under `vaultfs ls --help`.
pub(super) const LS: &str = "\
Examples:
  vaultfs ls /srv/vault servers/web-01/latest/root/etc
  vaultfs ls /srv/vault servers/web-01/latest/volumes/vda1/boot -lR
  vaultfs ls /srv/vault filesystems/home/latest/tree/ann
  vaultfs ls /srv/vault servers/web-01/latest/root/home -a --json | jq -r '.[] | select(.size > 1000000) | .path'

Paths are those of the mount. Symbolic links of a backup lead to files of the same backup only.
Names are quoted for the shell on a terminal and raw otherwise.";

/// Under `vaultfs cat --help`.
pub(super) const CAT: &str = "\
Examples:
  vaultfs cat /srv/vault servers/web-01/latest/root/etc/fstab
  vaultfs cat /srv/vault filesystems/home/latest/tree/ann/notes.txt
  vaultfs cat /srv/vault servers/web-01/latest/disks/vda.img > vda.img
  vaultfs cat /srv/vault disks/db-data/latest/disk.img | ssh other 'dd of=/dev/vg0/db-data bs=1M'
  vaultfs cat /srv/vault servers/web-01/latest/backup.json | jq .facts";

/// Under `vaultfs cp --help`.
pub(super) const CP: &str = "\
Examples:
  vaultfs cp /srv/vault servers/web-01/latest/root/etc/fstab .
  vaultfs cp -r /srv/vault servers/web-01/latest/root/var/www servers/web-01/latest/root/etc/nginx /tmp/back
  vaultfs cp -r /srv/vault filesystems/home/latest/tree/ann /home --force

As cp -a: modes, times, hard links, holes, extended attributes and ACLs are kept; owners, devices and capabilities if
you are root. Nothing is replaced without --force. A file has its name in DEST only when it is complete.";

/// Under `vaultfs delete --help` and `vaultfs undelete --help`.
pub(super) const DELETE: &str = "\
Examples:
  vaultfs delete /srv/vault servers/web-01/2026-11-20T03-00-00Z --dry-run
  vaultfs delete /srv/vault servers/web-01/2026-11-20T03-00-00Z servers/web-01/2026-11-21T03-00-00Z
  vaultfs list /srv/vault --deleted
  vaultfs undelete /srv/vault servers/web-01/2026-11-20T03-00-00Z

A deleted backup is gone from lists and mounts at once, and takes its space until a prune removes it.
Pinned and locked backups are not deleted. What is asked for and so already is no error.";

/// Under `vaultfs pin --help` and `vaultfs unpin --help`.
pub(super) const PIN: &str = "\
Examples:
  vaultfs pin /srv/vault servers/web-01/latest --reason 'before the upgrade'
  vaultfs pin /srv/vault disks/db/latest --reason audit --until 2027-06-30T00:00:00+02:00
  vaultfs unpin /srv/vault servers/web-01/2026-11-20T03-00-00Z

Whoever may write to the vault may take a pin away; see `vaultfs lock` for what nobody can take away.";

/// Under `vaultfs lock --help`.
pub(super) const LOCK: &str = "\
Examples:
  vaultfs lock /srv/vault servers/web-01/latest --until 2027-11-20T00-00-00Z

A lock cannot be taken away or shortened by any command; another one may make it last longer. It binds vaultfs, not who can
remove files of the vault by other means.";

/// Under `vaultfs retain --help`.
pub(super) const RETAIN: &str = "\
Examples:
  vaultfs retain /srv/vault --number 7 --dry-run
  vaultfs retain /srv/vault servers --day 7 --week 4 --month 12 --timezone Europe/Berlin
  vaultfs retain /srv/vault servers/web-01 --age 30d --schedule nightly

The rules are about backups made with --schedule, for each resource by itself; they add to each other. Backups made by
hand, pinned and locked ones always stay and are not counted, and so does the newest backup of each resource.
What goes is deleted as by `vaultfs delete`: `vaultfs undelete` brings it back until a prune removes it.";

/// Examples of `prune`.
pub(super) const PRUNE: &str = "\
Examples:
  vaultfs prune /srv/vault --dry-run
  vaultfs prune /srv/vault
  vaultfs prune /srv/vault --who

A run marks what no backup needs, and removes what an earlier run has marked, if the grace time has passed and still
nobody needs it: run it each day. Backups, copies and mounts may go on beside it. Deleted backups are marked
once they cannot be brought back any more; until they are removed, `vaultfs undelete` still works.";

/// How `vaultfs copy` is called.
pub(super) const COPY_USAGE: &str = "\
vaultfs copy [OPTIONS] <VAULT> <ADDRESS>... <TO-VAULT>
       vaultfs copy [OPTIONS] --all <VAULT> <TO-VAULT>";

/// Under `vaultfs copy --help`.
pub(super) const COPY: &str = "\
Examples:
  vaultfs copy /srv/vault servers/web-01/latest /mnt/usb/vault
  vaultfs copy /srv/vault servers/web-01 disks s3://offsite/vault
  vaultfs copy --all /srv/vault s3://offsite/vault
  TO_AWS_PROFILE=offsite vaultfs copy --all s3://onsite/vault s3://offsite/vault

Make the other vault first, with vaultfs init. Backups keep their addresses. Chunks that the other vault has
are not copied; every other one is checked on its way. A backup is visible there when it is whole: after an
interruption, copy again, and what has arrived is found. One that is there already must be the same; a
different one is named and left alone. If variables TO_AWS_... are set, they and no AWS_... ones are for the
bucket copied to.";

/// Under `vaultfs verify --help`.
pub(super) const VERIFY: &str = "\
Examples:
  vaultfs verify /srv/vault
  vaultfs verify /srv/vault --data
  vaultfs verify /srv/vault --data --slice 3/30 --limit-rate 50MiB
  vaultfs verify /srv/vault servers/web-01/latest --data
  vaultfs verify s3://backups/main --json | jq '.backups[] | {address, files}'

What is damaged is named with the backups and files it belongs to, and put into quarantine, so that the next backup
stores it again; nothing is deleted. Exit code 3: something is damaged; 4: the store did not give everything.
A run that is interrupted is gone on with by the same command.";

/// Under `vaultfs repair --help`.
pub(super) const REPAIR: &str = "\
Examples:
  vaultfs repair /srv/vault
  vaultfs repair /srv/vault --apply
  vaultfs repair /srv/vault --from s3://offsite/vault --apply

Run vaultfs verify --data first: it puts what is damaged into quarantine. Whole copies are looked for in other packs and in
the other vault. New objects are written; a damaged index goes when it has been replaced, nothing else is removed.
Exit code 3: something is lost that no copy was found of.";
