/// A directive of rsnapshot 1.4.5 and its allowed values, in the template and in the configurations made from it.
///
/// The daemon runs `rsnapshot sync` with its own configuration, which copies the directives that determine the copy, and rotates the snapshots
/// itself; the account's configuration remains usable with rsnapshot by hand. Directives that would make either of them do anything but
/// copy the whole `incoming/` into the next snapshot are refused with the reason.
struct RsnapshotDirective: Hashable, Sendable {
    enum Rule: Hashable {
        /// One value, checked by rsnapshot; it does not change what a backup stores.
        case anyValue
        /// Exactly these fields, with placeholders; a slash at the end of a field is ignored.
        case exactly([String])
        /// `-` and letters.
        case rsyncShortOptions
        /// Words, as rsnapshot splits them.
        case rsyncLongOptions
        /// One word for rsync.
        case pattern
        /// The absolute path of a file that is not the account's.
        case file
        /// Made from `%RETAIN%`; refused in a template.
        case retain
        case refused(reason: String, hint: String)
    }

    let rule: Rule
    var isRequired = false
    var isRepeatable = false

    // MARK: - The table

    static let table: [String: Self] = {
        var table: [String: Self] = [
            "config_version": Self(rule: .exactly(["1.2"]), isRequired: true),
            "snapshot_root": Self(rule: .exactly(["%SNAPSHOT_ROOT%/"]), isRequired: true),
            "no_create_root": Self(rule: .exactly(["1"]), isRequired: true),
            "cmd_rsync": Self(rule: .anyValue, isRequired: true),
            "retain": Self(rule: .retain, isRequired: true, isRepeatable: true),
            // Without it rsnapshot copies with cp and then changes files that older snapshots share.
            "link_dest": Self(rule: .exactly(["1"]), isRequired: true),
            // Without it rsnapshot by hand does not wait for the daemon's copy.
            "lockfile": Self(rule: .exactly(["%LOCKFILE%"]), isRequired: true),
            "backup": Self(rule: .exactly(["%HOME%/incoming/", "./"]), isRequired: true),
            "rsync_short_args": Self(rule: .rsyncShortOptions),
            // Without it rsnapshot adds --relative.
            "rsync_long_args": Self(rule: .rsyncLongOptions, isRequired: true),
            "include": Self(rule: .pattern, isRepeatable: true),
            "exclude": Self(rule: .pattern, isRepeatable: true),
            "include_file": Self(rule: .file, isRepeatable: true),
            "exclude_file": Self(rule: .file, isRepeatable: true),
            "one_fs": Self(rule: .anyValue),
            "rsync_numtries": Self(rule: .exactly(["1"])),
        ]
        // These affect output, reports by hand, or directives that are refused.
        for name in [
            "cmd_cp", "cmd_rm", "cmd_ssh", "cmd_logger", "cmd_du", "cmd_rsnapshot_diff", "ssh_args", "du_args",
            "verbose",
            "loglevel",
        ] { table[name] = Self(rule: .anyValue) }
        for (names, reason, hint) in refusals {
            for name in names.split(separator: " ") {
                table[String(name)] = Self(rule: .refused(reason: reason, hint: hint))
            }
        }
        return table
    }()

    /// The rows of directives that a file must have, in the order of their names.
    static let required = table.filter(\.value.isRequired).sorted { $0.key < $1.key }

    private static let refusals = [
        (
            "interval", "levels are written by the daemon, from the account's entry",
            "write %RETAIN% on a line of its own"
        ),
        (
            "include_conf", "it includes lines, or the output of a command, that were not checked",
            "write the lines themselves into the template"
        ),
        (
            "sync_first",
            "with it rsnapshot by hand rotates the snapshots without a new copy; the daemon sets it for its own runs",
            "take the line out"
        ),
        (
            "use_lazy_deletes", "it releases the lock before rsnapshot has ended, and the next run overlaps",
            "take the line out"
        ),
        (
            "stop_on_stale_lockfile", "after a crash no run by hand would start until the lock file is removed",
            "take the line out"
        ),
        (
            "cmd_preexec cmd_postexec",
            "it runs a command with every copy; no job shows it, and its failure ends the copy",
            "use pre_script.sh and post_script.sh: [Hooks Backup] in the settings"
        ),
        (
            "backup_script backup_exec",
            "it runs a command during the copy, and its output is not the account's data",
            "run it before the backup: pre_script.sh of [Hooks Backup], or a [Job NAME]"
        ),
        (
            "logfile", "rsnapshot appends to it by name, also as root, so a link could redirect it",
            "take the line out: the output of each backup is in the history, see jobs show"
        ),
        (
            "linux_lvm_cmd_lvcreate linux_lvm_cmd_lvremove linux_lvm_cmd_mount linux_lvm_cmd_umount linux_lvm_snapshotsize "
                + "linux_lvm_snapshotname linux_lvm_vgpath linux_lvm_mountpath",
            "it is for copies of other volumes, and mounts them as root", "take the line out"
        ),
    ]

    /// The hint for a missing line.
    func example(_ name: String) -> String {
        switch rule {
        case .exactly(let fields): "write \(([name] + fields).joined(separator: "<TAB>"))"
        case .rsyncLongOptions: "write \(name)<TAB>--delete --numeric-ids --delete-excluded"
        case .retain: "write %RETAIN% on a line of its own"
        default: name == "cmd_rsync" ? "write cmd_rsync<TAB>%RSYNC%" : "write \(name)"
        }
    }

    // MARK: - Checking a line

    /// - Parameters:
    ///   - fields: the directive and its values, at least one.
    ///   - values: of the placeholders; in the template each is its own value.
    static func check(
        _ fields: [String], values: (RsnapshotTemplate.Placeholder) -> String
    ) throws(RsnapshotSyntaxError) {
        let (name, fields) = (fields[0], Array(fields.dropFirst()))
        guard let rule = table[name]?.rule else {
            throw RsnapshotSyntaxError(
                "rsnapshot 1.4 has no directive \(name)", "take the line out, or correct its name")
        }
        switch rule {
        case .refused(let reason, let hint): throw RsnapshotSyntaxError("\(name) is refused: \(reason)", hint)
        case .exactly(let expected):
            let filled = expected.map { RsnapshotTemplate.fill($0, values: values) }
            guard fields.map(withoutSlash) == filled.map(withoutSlash) else {
                throw RsnapshotSyntaxError(
                    "\(name) is \(fields.joined(separator: " ")), and may only be \(filled.joined(separator: " "))",
                    Self(rule: rule).example(name))
            }
        case .retain:
            throw RsnapshotSyntaxError(
                "retain is written by the daemon, from the account's entry", "write %RETAIN% on a line of its own")
        case .anyValue, .rsyncShortOptions, .rsyncLongOptions, .pattern, .file:
            guard fields.count == 1 else {
                throw RsnapshotSyntaxError(
                    "rsnapshot reads one field behind \(name) and ignores the others",
                    "put all into one field, with blanks between the words")
            }
            try check(name, fields[0], rule, inside: [values(.home), values(.snapshotRoot)])
        }
    }

    private static func check(
        _ name: String, _ value: String, _ rule: Rule, inside account: [String]
    ) throws(RsnapshotSyntaxError) {
        switch rule {
        case .rsyncShortOptions: try RsyncOptions.check(short: value)
        case .rsyncLongOptions: try RsyncOptions.check(long: try RsyncOptions.words(value, of: name))
        case .pattern:
            guard try RsyncOptions.words(value, of: name).count == 1 else {
                throw RsnapshotSyntaxError(
                    "\(name) \(value) is more than one word for rsync", "put quotes around a pattern with blanks")
            }
        case .file:
            guard value.hasPrefix("/"), !account.contains(where: value.contains) else {
                throw RsnapshotSyntaxError(
                    "\(name) \(value) is no absolute path outside the account",
                    "put the file where only root can write, such as /etc/Provisioning/Backup")
            }
            guard try RsyncOptions.words(value, of: name) == [value] else {
                throw RsnapshotSyntaxError("\(name) \(value) has blanks or quotes", "choose a name without them")
            }
        case .anyValue, .exactly, .retain, .refused: break
        }
    }

    private static func withoutSlash(_ field: String) -> Substring {
        field.utf8.count > 1 && field.utf8.last == UInt8(ascii: "/") ? Substring(field.utf8.dropLast()) : field[...]
    }
}
