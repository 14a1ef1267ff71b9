import EventLoop
import Glibc
package import JobCore
import Provisioning
package import SystemPackage

/// The name of an archived home: `UID-YYYYMMDDThhmmssZ`, with `-2`, `-3`, … if that name exists already.
struct ArchiveName: Hashable, Sendable {
    /// The directory below a volume that holds archived homes.
    static let directory: FilePath.Component = ".deleted"
    /// The beginning of the name of a home, or of an account's snapshots, while it is removed: `.removed-UID-NUMBER` in that directory. Under its own name an
    /// interrupted removal would leave what a later `add` takes for a whole home and for good snapshots.
    private static let removedPrefix = ".removed-"

    /// The name of what is removed.
    static func removed(_ uid: String, _ number: Int) -> FilePath.Component {
        .named("\(removedPrefix)\(uid)-\(number)")
    }

    /// The uid in the name of what is removed; nil for any other name.
    static func uid(ofRemoved name: FilePath.Component) -> String? {
        guard name.string.hasPrefix(removedPrefix) else { return nil }
        let parts = name.string.dropFirst(removedPrefix.count)
            .split(separator: "-", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, BackupAccount.isUID(parts[0]), EntryReader.decimal(parts[1]) != nil else { return nil }
        return parts[0]
    }

    let uid: String
    let archived: Timestamp
    /// 1 for the first of that second.
    var number = 1

    var text: String { "\(uid)-\(archived.text)" + (number == 1 ? "" : "-\(number)") }
    var component: FilePath.Component { .named(text) }
}

extension ArchiveName {
    /// - Returns: nil for a name that was not made by archiving.
    init?(parsing text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2 || parts.count == 3, BackupAccount.isUID(parts[0]),
            let archived = Timestamp(text: parts[1])
        else { return nil }
        let number = parts.count == 3 ? EntryReader.decimal(parts[2]) : 1
        guard let number, (1...99).contains(number) else { return nil }
        self.init(uid: parts[0], archived: archived, number: Int(number))
        guard self.text == text else { return nil }
    }
}

/// The removal of archived homes that are old enough, and of what an interrupted removal left, unless the account has been provisioned again; the
/// daemon runs it once a day. Names that neither has made are ignored.
package struct ArchivePurge: Sendable {
    /// Called for each home when it has been removed, with the volume or root that held it.
    package typealias Removed = @MainActor @Sendable (_ path: FilePath, _ volume: FilePath) async -> Void

    private let configuration: BackupConfiguration
    private let now: Timestamp
    private let removed: Removed
    /// What is not removed, with the reason and the hint.
    private var problems: [String] = []

    /// Removes what is due. A home that cannot be removed does not prevent the removal of others; each has a time limit of its own.
    /// - Parameter now: for the age of archived homes.
    /// - Returns: what is not removed, with the reason and the hint.
    /// - Throws: `CancellationError`; the next run continues an interrupted removal.
    package static func run(
        _ configuration: BackupConfiguration, now: Timestamp, removed: @escaping Removed
    ) async throws -> [String] {
        var purge = ArchivePurge(configuration: configuration, now: now, removed: removed)
        for base in configuration.places.bases {
            try await purge.reporting { purge in try await purge.empty(base) }
        }
        return purge.problems
    }

    private mutating func empty(_ base: FilePath) async throws {
        let found = try await BlockingWork.run { [places = configuration.places] _ in
            try HomeWalk.contents(of: ArchiveName.directory, in: base, places)
        }
        guard let (directory, names) = found else { return }
        for name in Self.due(names.map(\.string), after: configuration.purgeAfterDays, now: now) {
            try await reporting { purge in
                try await Self.remove(name.component, in: directory, within: purge.configuration.timeLimit)
                await purge.removed(directory.path.appending(name.component), base)
            }
        }
        let abandoned = try await BlockingWork.run { [now] _ in
            try HomeWalk.explained(below: base) { try Self.abandoned(names, in: directory, now: now) }
        }
        for (name, uid) in abandoned {
            try await reporting { purge in
                let file = ConfigurationFile(of: uid, purge.configuration)
                guard try await !BlockingWork.run({ () throws(ProvisioningFailure) in try file.exists() }) else {
                    return purge.problems.append(Self.kept(directory.path.appending(name), file, uid))
                }
                try await Self.remove(name, in: directory, within: purge.configuration.timeLimit)
            }
        }
    }

    private mutating func reporting(_ body: (inout ArchivePurge) async throws -> Void) async throws {
        do {
            try await body(&self)
        } catch let failure as ProvisioningFailure {
            problems.append("\(failure.reason); \(failure.hint)")
        }
    }

    /// The archived homes among some names that are older than the days they are kept.
    static func due(_ names: [String], after days: Int, now: Timestamp) -> [ArchiveName] {
        names.compactMap(ArchiveName.init(parsing:))
            .filter { now - $0.archived > .seconds(86_400 * Int64(max(0, days))) }
            .sorted { $0.text < $1.text }
    }

    /// Longer than any removal takes between two names of the top directory.
    private static let longestRemoval = Duration.seconds(86_400)

    /// What removals have left that nothing continues, since no delete of the account followed.
    private static func abandoned(
        _ names: [FilePath.Component], in directory: HeldDirectory, now: Timestamp
    ) throws -> [(name: FilePath.Component, uid: String)] {
        try names.compactMap { name in
            guard let uid = ArchiveName.uid(ofRemoved: name), let status = try directory.status(of: name),
                now - Timestamp(secondsSince1970: Int64(status.st_ctim.tv_sec)) > longestRemoval
            else { return nil }
            return (name, uid)
        }
    }

    /// What removals have left that have not ended, on all volumes whose `.deleted` can be read. It blocks.
    static func removals(_ places: HomePlaces) -> [(path: FilePath, uid: String)] {
        places.bases.flatMap { base -> [(path: FilePath, uid: String)] in
            let found = try? HomeWalk.contents(of: ArchiveName.directory, in: base, places)
            return (found?.names ?? []).compactMap { name in
                ArchiveName.uid(ofRemoved: name).map { (base.appending(ArchiveName.directory).appending(name), $0) }
            }
        }
    }

    /// The delete was withdrawn, perhaps since it was a mistake.
    private static func kept(_ path: FilePath, _ file: ConfigurationFile, _ uid: String) -> String {
        "\(path), of a removal that has not ended, is kept because \(file.path) exists; see prov-backup-rsnapshot accounts explain \(uid)"
    }

    private static func remove(
        _ name: FilePath.Component, in directory: HeldDirectory, within timeLimit: Duration
    ) async throws {
        try await BlockingWork.walk(
            within: timeLimit, code: .undefinedError,
            unfinished: "\(directory.path.appending(name)) could not be removed",
            explain: { failure in
                failure.readOnlySubvolume
                    ?? failure.provisioningFailure(
                        .undefinedError,
                        hint: failure.cause == .improperLink
                            ? "something is mounted there: umount \(failure.path.shellWord)"
                            : "check the permissions and the disk")
            }
        ) {
            try TreeRemoval(isCancelled: $0).remove(name, in: directory)
        }
    }
}

/// Archives or removes the directory of a deleted account (setting ON_DELETE) with its snapshots wherever they are, and removes its mount.
///
/// Errors: code 4 if the directories above cannot be trusted, code 5 for its snapshots, else code 1; retryable while a process works in it.
struct HomeDisposalStep: ProvisioningStep {
    let account: BackupAccount
    let home: HomePath
    let disposal: HomeDisposal
    let timeLimit: Duration
    let clock: any WallClock
    /// Checks that no other entry has the same home (``ProvisioningRequest/demandUnique``).
    let demandUnique: @Sendable () async throws -> Void

    let name = "home"

    private var store: SnapshotStore { SnapshotStore(home) }
    private var accountName: FilePath.Component { .named(account.uid) }

    var preview: String {
        let hasStore = (try? HomeWalk(to: home).store()) != nil
        switch disposal {
        case .keep: return "keep \(home.accountDirectory)" + (hasStore ? " and \(home.store), without a mount" : "")
        case .remove:
            let others = hasStore ? " and \(home.store)" : ""
            return "remove \(home.accountDirectory)\(others) with all that is in it"
        case .archive:
            let name = ArchiveName(uid: account.uid, archived: clock.now).component
            return (hasStore ? "\(store.text(of: .moveToHome))\n" : "")
                + "rename \(home.accountDirectory) to \(home.base.appending(ArchiveName.directory).appending(name))"
        }
    }

    /// Whether a removal of the account at this place has begun and not ended.
    static func isUnfinished(at walk: HomeWalk) throws(ProvisioningFailure) -> Bool {
        let uid = walk.home.accountName.string
        return try HomeWalk.explained(below: walk.home.root) { () throws(HeldDirectory.Failure) in
            try walk.base?.directory(ArchiveName.directory)?.names().contains { ArchiveName.uid(ofRemoved: $0) == uid }
                ?? false
        }
    }

    func perform(in attempt: RunningAttempt) async throws {
        if disposal != .keep { try await demandUnique() }
        let step = self
        do {
            try await BlockingWork.walk(
                within: timeLimit, code: .undefinedError, unfinished: "\(home.accountDirectory) could not be removed",
                explain: explain
            ) {
                try step.dispose($0)
            }
        } catch let error as CancellationError {
            // The delete may have been a mistake.
            attempt.write(
                "what is left of it is in \(home.base.appending(ArchiveName.directory)), until the delete is repeated or the purge removes it"
            )
            throw error
        }
    }

    private func dispose(_ isCancelled: @escaping @Sendable () -> Bool) throws {
        let hasStore = try HomeWalk(to: home).store() != nil
        if hasStore, try HomeWalk(to: home).directory != nil { try store.unmount() }
        switch disposal {
        case .keep: return
        case .archive: try archive(hasStore: hasStore)
        case .remove: try remove(hasStore: hasStore, isCancelled)
        }
    }

    /// A mount between the base and the account, or no room for another name: then the directory is removed where it is.
    private static let preventsMove: Set<Errno> = [.improperLink, .noSpace, .diskQuotaExceeded]

    private func remove(hasStore: Bool, _ isCancelled: @escaping @Sendable () -> Bool) throws {
        let walk = try HomeWalk(to: home)
        guard let base = walk.base else { return }
        if let directory = walk.account { try demandNoMounts(inside: directory) }
        // Besides the snapshots: the home, and two unfinished copies.
        let sizes = (try? walk.snapshots()).map { SnapshotDirectory(directory: $0).sizes } ?? SizeRecord()
        let removal = TreeRemoval(limit: sizes.nameLimit(others: 3), isCancelled: isCancelled)
        let stores = hasStore ? try walk.stores() : nil
        for parent in [stores, walk.account == nil ? nil : walk.accountParent].compactMap(\.self) {
            do {
                guard let archive = try archive(in: base, isNeeded: true) else { continue }
                try move(from: parent, into: archive) { ArchiveName.removed(account.uid, $0) }
            } catch let failure as HeldDirectory.Failure where Self.preventsMove.contains(failure.cause) {
                try removal.remove(accountName, in: parent)
            }
        }
        guard let archive = try archive(in: base, isNeeded: false) else { return }
        // Also those of earlier attempts.
        for name in try archive.names() where ArchiveName.uid(ofRemoved: name) == account.uid {
            try removal.remove(name, in: archive)
        }
    }

    /// Archives the home with its snapshots as one directory. If the snapshots cannot be moved back into the home, they get a name of their own.
    private func archive(hasStore: Bool) throws {
        let isWhole = try !hasStore || HomeWalk(to: home).directory != nil && store.putBack()
        let walk = try HomeWalk(to: home)
        guard let base = walk.base else { return }
        if !isWhole, let stores = try walk.stores() { try archive(from: stores, base: base) }
        if walk.account != nil, let parent = walk.accountParent { try archive(from: parent, base: base) }
    }

    private func archive(from parent: HeldDirectory, base: HeldDirectory) throws {
        guard let archive = try archive(in: base, isNeeded: true) else { return }
        let now = clock.now
        try move(from: parent, into: archive) {
            ArchiveName(uid: account.uid, archived: now, number: $0).component
        }
    }

    /// The directory of archived homes.
    /// - Parameter isNeeded: whether it is made if it is missing.
    private func archive(in base: HeldDirectory, isNeeded: Bool) throws -> HeldDirectory? {
        if isNeeded, try base.makeDirectory(ArchiveName.directory) { try base.synchronize() }
        guard let archive = try base.directory(ArchiveName.directory) else { return nil }
        try HomeWalk.demandClosed(archive, "", .undefinedError)
        return archive
    }

    /// Renames the account's directory in a parent to the first free name.
    private func move(
        from parent: HeldDirectory, into archive: HeldDirectory, as name: (Int) -> FilePath.Component
    ) throws {
        for number in 1...99 where try parent.rename(accountName, into: archive, as: name(number)) {
            try archive.synchronize()
            try parent.synchronize()
            return
        }
        throw ProvisioningFailure(
            .undefinedError, .retryable,
            reason:
                "\(archive.path) holds 99 homes of \(account.uid) that were archived within a second, or not removed",
            hint: "remove those whose names begin with .removed-\(account.uid)-, or wait a second")
    }

    /// A removal would stop at a mount; this check stops before anything is removed.
    private func demandNoMounts(inside directory: HeldDirectory) throws {
        let path = try directory.realPath()
        let mounts = try MountTable.current(near: path).mounts(inside: path).map(\.point.string)
        guard mounts.isEmpty else {
            throw ProvisioningFailure(
                .undefinedError, reason: "\(mounts.joined(separator: ", ")) is mounted inside \(directory.path)",
                hint: "umount \(mounts.map(\.shellWord).joined(separator: " "))")
        }
    }

    func explain(_ failure: HeldDirectory.Failure) -> ProvisioningFailure {
        if let explained = failure.readOnlySubvolume { return explained }
        return switch failure.cause {
        case .improperLink:
            failure.provisioningFailure(
                .undefinedError,
                hint:
                    "homes are archived within one file system: name the mount that holds \(home.accountDirectory) in "
                    + "VOLUMES of a [Pool NAME] section, or umount what is mounted in it")
        case .directoryNotEmpty, .resourceBusy:
            failure.provisioningFailure(
                .undefinedError, .retryable,
                hint: "end the processes that still work in the directory: ps -fu \(account.uidNumber)")
        case let cause where cause.isShortage:
            failure.provisioningFailure(.undefinedError, hint: cause.shortageHint(at: home.base))
        default: failure.provisioningFailure(.undefinedError, hint: "check the permissions and the disk")
        }
    }
}
