import Provisioning
import SystemPackage

/// What an account's rsnapshot configuration says about its snapshots, as far as a backup must know it.
///
/// Provisioning writes the file, and rsnapshot reads it whole when an operator runs it by hand. A backup takes the levels from it, makes
/// sure that it is about the home and the level that the entry names, and derives from it the configuration of its own run.
struct ConfiguredSnapshots: Hashable, Sendable {
    /// A level, and how many snapshots of it are kept.
    struct Level: Hashable, Sendable {
        var name: String
        var retain: Int
    }

    let root: FilePath?
    /// In the file's order: the first copies, each of the others takes over what the one before drops.
    let levels: [Level]
    let lockFile: FilePath?
    let rsync: FilePath?
    /// The fields of each line, by its first word, in the file's order.
    private let values: [String: [[String]]]

    static let provisionAgain =
        "provision the account again: write sstProvisioningMode: modify and sstProvisioningState: 0 into its entry"

    init(parsing text: String) {
        var values: [String: [[String]]] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let fields = line.split(separator: "\t").map(String.init)
            guard fields.count > 1 else { continue }
            // rsnapshot knows `interval` as the older name of `retain`.
            values[fields[0] == "interval" ? "retain" : fields[0], default: []].append(Array(fields.dropFirst()))
        }
        self.values = values
        func first(_ name: String) -> FilePath? { values[name]?.first?.first.map { FilePath($0) } }
        root = first("snapshot_root")
        levels = (values["retain"] ?? []).compactMap { fields in
            guard fields.count == 2, let retain = Int(fields[1]), retain > 0 else { return nil }
            return Level(name: fields[0], retain: retain)
        }
        lockFile = first("lockfile")
        rsync = first("cmd_rsync")
    }

    /// Whether a run of the level copies; else it takes a snapshot over.
    func copies(_ level: SnapshotLevel) -> Bool { levels.first?.name == level.rawValue }

    /// How many snapshots of the level are kept; nil: it is not in use.
    func retain(_ level: String) -> Int? { levels.first { $0.name == level }?.retain }

    /// The snapshot that a level takes over: the oldest that the level before it keeps. nil for the level that copies.
    func source(of level: SnapshotLevel) -> FilePath.Component? {
        guard let place = levels.firstIndex(where: { $0.name == level.rawValue }), place > 0 else { return nil }
        return SnapshotRotation.name(levels[place - 1].name, levels[place - 1].retain - 1)
    }

    /// The home whose uploads are copied; nil where there is not just one.
    var home: FilePath? {
        guard let lines = values["backup"], lines.count == 1, let source = lines[0].first.map({ FilePath($0) }),
            source.lastComponent == HomeDirectory.incoming
        else { return nil }
        return source.removingLastComponent()
    }

    /// Where the snapshots lie is for the disk to say, see ``SnapshotStore``: the file may name either of the account's own two places.
    /// - Throws: code 7 when the file is about something else than what the entry asks for.
    func demand(_ level: SnapshotLevel, in home: HomePath, of file: ConfigurationFile) throws(ProvisioningFailure) {
        func failure(_ reason: String) -> ProvisioningFailure {
            ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, reason: "\(file.path) \(reason)", hint: Self.provisionAgain)
        }
        guard let root, [home.snapshots, home.store].contains(root) else {
            throw failure(
                "has the snapshot_root \(root.map { EntryReader.quote($0.string) } ?? "(none)"), and the entry's home is \(home.path)"
            )
        }
        guard retain(level.rawValue) != nil else { throw failure("has no line retain \(level)") }
        guard self.home == home.path else {
            throw failure("must have exactly one backup line, for \(home.path)/\(HomeDirectory.incoming)/")
        }
        for name in Self.takenOver + ["rsync_long_args"] {
            for fields in values[name, default: []] {
                do throws(RsnapshotDirective.Objection) {
                    try RsnapshotDirective.check(name, fields, isTemplate: false) { placeholder in
                        placeholder == .home ? home.path.string : "%\(placeholder.rawValue)%"
                    }
                } catch {
                    throw ProvisioningFailure(
                        .cannotCreateRsnapshotConfiguration, .configuration,
                        reason: "\(file.path) cannot be used for a copy: \(error.reason)",
                        hint: "\(error.hint); correct RSNAPSHOT_TEMPLATE, and \(Self.provisionAgain)")
                }
            }
        }
    }

    // MARK: - The run

    /// Directives that say what is copied, and are taken over as they are.
    private static let takenOver = [
        "rsync_short_args", "include", "exclude", "include_file", "exclude_file", "one_fs", "backup",
    ]
    /// What every copy does, whatever the account's file says: files that did not change are links to the snapshot before, told apart
    /// to the nanosecond; holes and hard links stay what they are, and rsync counts what it has copied.
    private static let longArguments = "--sparse --hard-links --modify-window=-1 --stats --no-human-readable"

    /// The files that rsync reads besides the account's own.
    var patternFiles: [FilePath] {
        (values["include_file", default: []] + values["exclude_file", default: []])
            .compactMap { $0.first.map { FilePath($0) } }
    }

    /// The configuration with which `rsnapshot sync` makes one copy: it copies and leaves every level alone.
    /// - Parameters:
    ///   - root: the directory that holds the snapshots.
    ///   - rsync: what is run in place of rsync.
    ///   - partial: an earlier unfinished copy, whose files are linked where they have not changed; nil: there is none.
    func runConfiguration(root: FilePath, rsync: FilePath, partial: FilePath?) -> String {
        var lines = [
            ["config_version", "1.2"], ["snapshot_root", "\(root)/"], ["no_create_root", "1"],
            ["cmd_rsync", rsync.string], ["cmd_rm", "/bin/rm"],
        ]
        lines += levels.map { ["retain", $0.name, "\($0.retain)"] }
        lines += [["sync_first", "1"], ["link_dest", "1"], ["verbose", "3"]]
        let long =
            (values["rsync_long_args"]?.first ?? ["--delete", "--numeric-ids", "--delete-excluded"])
            + [Self.longArguments] + (partial.map { ["--link-dest=\($0)"] } ?? [])
        lines.append(["rsync_long_args", long.joined(separator: " ")])
        for name in Self.takenOver { lines += values[name, default: []].map { [name] + $0 } }
        return lines.map { $0.joined(separator: "\t") + "\n" }.joined()
    }
}
