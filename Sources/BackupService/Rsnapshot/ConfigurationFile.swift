import Glibc
import JobCore
import Provisioning
import SystemPackage

/// An account's rsnapshot configuration on the disk.
///
/// A new text is written to a temporary name in the same directory, flushed, and renamed over the old file: a crash leaves the old file or the
/// new one. The temporary name is always the same, so a leftover one is overwritten.
/// Errors: code 7 with the path and the cause.
struct ConfigurationFile: Hashable, Sendable {
    let directory: FilePath
    /// With `.account` only root may be able to write the directory and the file.
    let ownership: Ownership
    let path: FilePath
    /// The file of a new text that is not yet checked and renamed.
    let temporaryPath: FilePath

    private let name: FilePath.Component
    private let temporaryName: FilePath.Component

    init(of uid: String, _ configuration: BackupConfiguration) {
        directory = configuration.configurationDirectory
        ownership = configuration.ownership
        name = .named("\(uid).conf")
        temporaryName = .named(".\(uid).conf.new")
        path = directory.appending(name)
        temporaryPath = directory.appending(temporaryName)
    }

    /// The text of the file; nil if there is none, or if it is not a regular file of UTF-8.
    func current() throws(ProvisioningFailure) -> String? {
        try explained("read") {
            do {
                return try HeldDirectory(configured: directory).contents(of: name).map { try String(utf8: $0) }
            } catch let failure as HeldDirectory.Failure
                where [.noSuchFileOrDirectory, .tooManySymbolicLinkLevels, .invalidArgument].contains(failure.cause)
            {
                return nil
            } catch Errno.illegalByteSequence {
                return nil
            }
        }
    }

    /// The text of a file that only root can have written, since rsnapshot runs it as root; nil if there is none.
    /// - Throws: code 7 for a file or directory that others could change.
    func trustedText() throws(ProvisioningFailure) -> String? {
        try explained("read") {
            if ownership == .account, let status = try trusted().status(of: name) {
                let objection =
                    status.st_mode & S_IFMT == S_IFREG ? HomeWalk.objection(to: status) : "is not a plain file"
                if let objection {
                    throw ProvisioningFailure(
                        .cannotCreateRsnapshotConfiguration,
                        reason: "\(path), which rsnapshot runs as root, \(objection)",
                        hint: "see who wrote it; then rm \(path.shellWord), and " + ConfiguredSnapshots.provisionAgain)
                }
            }
            return try current()
        }
    }

    /// Whether the name exists; links are not followed.
    func exists() throws(ProvisioningFailure) -> Bool {
        try explained("examine") { try HeldDirectory(configured: directory).status(of: name) != nil }
    }

    /// Whether there is a new text, left by a crash or being checked.
    func hasTemporary() throws(ProvisioningFailure) -> Bool {
        try explained("examine") { try HeldDirectory(configured: directory).status(of: temporaryName) != nil }
    }

    func writeTemporary(_ text: String) throws(ProvisioningFailure) {
        try explained("write") { try trusted().create(temporaryName, Array(text.utf8), mode: 0o640) }
    }

    func putTemporaryInPlace() throws(ProvisioningFailure) {
        try explained("rename") { try trusted().replace(name, by: temporaryName) }
    }

    func removeTemporary() throws(ProvisioningFailure) {
        try explained("remove") { try HeldDirectory(configured: directory).removeFile(temporaryName) }
    }

    /// A file that does not exist is no error.
    func remove() throws(ProvisioningFailure) {
        try explained("remove") {
            let held = try trusted()
            try held.removeFile(temporaryName)
            try held.removeFile(name)
            try held.synchronize()
        }
    }

    private func trusted() throws -> HeldDirectory {
        let held = try HeldDirectory(configured: directory)
        if ownership == .account, let objection = HomeWalk.objection(to: try held.status()) {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, .configuration,
                reason: "\(directory), whose files rsnapshot runs as root, \(objection)",
                hint: "chown root \(directory.shellWord); chmod go-w \(directory.shellWord)")
        }
        return held
    }

    func explained<Value>(_ operation: String, _ body: () throws -> Value) throws(ProvisioningFailure) -> Value {
        do {
            return try body()
        } catch let failure as ProvisioningFailure {
            throw failure
        } catch {
            let cause = (error as? HeldDirectory.Failure)?.cause ?? error as? Errno
            let failureClass: FailureClass
            let hint: String
            switch cause {
            case .noSuchFileOrDirectory?, .notDirectory?:
                failureClass = .configuration
                hint = "install -d -m 0755 \(directory.shellWord), or correct RSNAPSHOT_CONFIG_DIRECTORY"
            case let cause? where cause.isShortage:
                failureClass = .shortage
                hint = cause.shortageHint(at: directory)
            default:
                failureClass = cause.flatMap { FailureClass($0) } ?? .permanent
                hint = "check the file, the permissions of \(directory) and the disk"
            }
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, failureClass,
                reason: "could not \(operation) \(path): \(cause.map { "\($0)" } ?? "\(error)")", hint: hint)
        }
    }
}

/// What a backup needs to know of an account's rsnapshot configuration.
///
/// Provisioning writes the file; rsnapshot reads it when an operator runs it by hand. A backup takes the levels from it, checks that home and
/// level are those of the entry, and derives the configuration of its own run from it.
struct ConfiguredSnapshots: Sendable {
    let root: FilePath?
    /// The levels and how many snapshots each keeps, in the file's order: the first copies; each other one takes over what the level before drops.
    let levels: [(name: String, retain: Int)]
    let lockFile: FilePath?
    let rsync: FilePath?
    /// The fields of each line after the first, by the first, in the file's order.
    private let values: [String: [[String]]]

    static let provisionAgain =
        "provision the account again: write sstProvisioningMode: modify and sstProvisioningState: 0 into its entry"

    init(parsing text: String) {
        var values: [String: [[String]]] = [:]
        // By bytes, which costs a tenth: the plan of every request reads it.
        for line in text.utf8.split(separator: UInt8(ascii: "\n")) where line.first != UInt8(ascii: "#") {
            let fields = line.split(separator: UInt8(ascii: "\t")).map { String(Substring($0)) }
            guard fields.count > 1 else { continue }
            // `interval` is an older name of `retain`.
            values[fields[0] == "interval" ? "retain" : fields[0], default: []].append(Array(fields.dropFirst()))
        }
        self.values = values
        func first(_ name: String) -> FilePath? { values[name]?.first?.first.map { FilePath($0) } }
        root = first("snapshot_root")
        levels = (values["retain"] ?? []).compactMap { fields in
            guard fields.count == 2, let retain = Int(fields[1]), retain > 0 else { return nil }
            return (fields[0], retain)
        }
        lockFile = first("lockfile")
        rsync = first("cmd_rsync")
    }

    /// Whether a run of the level copies; the others take over a snapshot.
    func copies(_ level: SnapshotLevel) -> Bool { levels.first?.name == level.rawValue }

    /// How many snapshots of the level are kept; nil: the level is not used.
    func retain(_ level: String) -> Int? { levels.first { $0.name == level }?.retain }

    /// The snapshot that a level takes over: the oldest that the level before keeps; nil for the level that copies.
    func source(of level: SnapshotLevel) -> FilePath.Component? {
        guard let place = levels.firstIndex(where: { $0.name == level.rawValue }), place > 0 else { return nil }
        return SnapshotRotation.name(levels[place - 1].name, levels[place - 1].retain - 1)
    }

    /// The home whose uploads are copied; nil unless there is exactly one.
    var home: FilePath? {
        guard let lines = values["backup"], lines.count == 1, let source = lines[0].first.map({ FilePath($0) }),
            source.lastComponent == HomePath.incomingName
        else { return nil }
        return source.removingLastComponent()
    }

    /// Refuses to go on without the snapshots that the file names and that are elsewhere than where they are looked for, as after a change of the
    /// volumes or of the home's place.
    /// - Parameter retry: the command that repeats a request; nil: the account has to be provisioned again.
    /// - Throws: code 4 if such snapshots of the account exist, and the home has none.
    func demandSnapshots(
        in walk: HomeWalk, of file: ConfigurationFile, retry: String? = nil
    ) throws(ProvisioningFailure) {
        let home = walk.home
        guard let root, ![home.snapshots, home.store].contains(root) else { return }
        let isInHome = root.lastComponent == HomePath.snapshotsName
        guard (isInHome ? root.removingLastComponent() : root).lastComponent == home.accountName,
            try HomeWalk.explained(below: home.root, { try Self.holdsFiles(root) }), try !walk.hasSnapshots()
        else { return }
        let store = try walk.store()
        let place = isInHome && store == nil ? home.snapshots : home.store
        // Not in its place before it is whole: between file systems mv copies.
        let unfinished = FilePath("\(place).moving")
        var commands = [
            "mv -T \(root.shellWord) \(unfinished.shellWord)", "mv -T \(unfinished.shellWord) \(place.shellWord)",
        ]
        if place == home.store, try walk.stores() == nil {
            commands.insert("install -d -m 0700 \(place.removingLastComponent().shellWord)", at: 0)
        }
        if (try? walk.directory?.hasMount(at: HomePath.snapshotsName)) == true {
            commands.insert("umount \(home.snapshots.shellWord)", at: 0)
        }
        throw ProvisioningFailure(
            .cannotCheckHomeDirPresence,
            reason: "the account's snapshots lie in \(root), as \(file.path) says, and belong in \(place)",
            hint: """
                move them: \(commands.joined(separator: " && ")) (after an interruption: rm -rf \(unfinished.shellWord), \
                and again); or, to leave them there and begin without any, rm \(file.path.shellWord); \
                then \(retry.map { "run: \($0)" } ?? Self.provisionAgain)
                """)
    }

    private static func holdsFiles(_ path: FilePath) throws(HeldDirectory.Failure) -> Bool {
        try existing(path).map { held throws(HeldDirectory.Failure) in try !held.isEmpty() } ?? false
    }

    /// nil: there is no such directory.
    private static func existing(_ path: FilePath) throws(HeldDirectory.Failure) -> HeldDirectory? {
        do throws(HeldDirectory.Failure) {
            return try HeldDirectory(configured: path)
        } catch {
            guard [.noSuchFileOrDirectory, .notDirectory].contains(error.cause) else { throw error }
            return nil
        }
    }

    /// Refuses to forget the file while its snapshots are mounted at a home that is not looked at any more, as after a change of HOME_LAYOUT.
    /// - Parameter retry: the command that repeats the request.
    /// - Throws: code 4, or the code of a home that cannot be read.
    func demandUnmounted(_ walk: HomeWalk, retry: String) throws(ProvisioningFailure) {
        guard let home, let root, root.lastComponent != HomePath.snapshotsName else { return }
        let isUnmountedLater = try walk.store() != nil
        let isMounted = try HomeWalk.explained(below: home) {
            guard let made = try Self.existing(home) else { return false }
            if isUnmountedLater, try walk.directory?.isSame(as: made) == true { return false }
            return try made.hasMount(at: HomePath.snapshotsName)
        }
        guard isMounted else { return }
        let point = home.appending(HomePath.snapshotsName)
        throw ProvisioningFailure(
            .cannotCheckHomeDirPresence,
            reason: "the snapshots in \(root) are mounted at \(point), and nothing would unmount them later",
            hint: "umount \(point.shellWord); then run: \(retry)")
    }

    /// Checks that the file is about this home and has the level. It may name either of the account's two places of snapshots; the disk decides
    /// which one is used, see ``SnapshotStore``.
    /// - Throws: code 7.
    func demand(_ level: SnapshotLevel, in home: HomePath, of file: ConfigurationFile) throws(ProvisioningFailure) {
        func failure(_ reason: String) -> ProvisioningFailure {
            ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, reason: "\(file.path) \(reason)", hint: Self.provisionAgain)
        }
        guard let root, [home.snapshots, home.store].contains(root) else {
            throw failure(
                "has the snapshot_root \(root.map { $0.string.quotedValue } ?? "(none)"), and the entry's home is \(home.path)"
            )
        }
        guard retain(level.rawValue) != nil else { throw failure("has no line retain \(level)") }
        guard self.home == home.path else {
            throw failure("must have exactly one backup line, for \(home.path)/\(HomePath.incomingName)/")
        }
        for name in Self.copiedDirectives + ["rsync_long_args"] {
            for fields in values[name, default: []] {
                do throws(RsnapshotSyntaxError) {
                    try RsnapshotDirective.check([name] + fields) {
                        $0 == .home ? home.path.string : "%\($0.rawValue)%"
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

    // MARK: - The configuration of a run

    /// Directives that determine what is copied; the run's configuration has them unchanged.
    private static let copiedDirectives = [
        "rsync_short_args", "include", "exclude", "include_file", "exclude_file", "one_fs", "backup",
    ]
    /// Options of every copy: unchanged files, compared to the nanosecond, are links to the previous snapshot; sparse files and hard links are
    /// kept; rsync counts files.
    private static let longArguments = "--sparse --hard-links --modify-window=-1 --stats --no-human-readable"

    /// Other files that rsync reads.
    var patternFiles: [FilePath] {
        (values["include_file", default: []] + values["exclude_file", default: []])
            .compactMap { $0.first.map { FilePath($0) } }
    }

    /// The configuration with which `rsnapshot sync` makes one copy; it changes no level.
    /// - Parameters:
    ///   - root: the directory that holds the snapshots.
    ///   - rsync: the program run as rsync.
    ///   - partial: an unfinished copy, whose unchanged files are linked; nil: there is none.
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
        for name in Self.copiedDirectives { lines += values[name, default: []].map { [name] + $0 } }
        return lines.map { $0.joined(separator: "\t") + "\n" }.joined()
    }
}
