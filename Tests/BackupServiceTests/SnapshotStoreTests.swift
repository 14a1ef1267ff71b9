import LDAP
import Foundation
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

private let uid = "3723707"
private let number: UInt32 = 3_723_707

/// With real mounts, and with commands of a customer.
@Suite(.enabled(if: isRoot, "needs root to mount"))
struct SnapshotStoreTests {
    /// An account that was provisioned under a setting.
    private struct Account {
        let files: TestDirectory
        let home: HomePath
        var store: SnapshotStore { SnapshotStore(home) }

        init(_ access: SnapshotAccess, chroot: Bool = false) async throws {
            files = try TestDirectory()
            let text = chroot ? "\(files.homes)/7/\(uid)/chroot/./home/\(uid)" : "\(files.homes)/\(uid)"
            let configuration = try files.configuration { $0.snapshots = access }
            home = try HomePath(parsing: text, uid: uid, places: configuration.places)
            try await provision(access, .add)
        }

        func configuration(_ access: SnapshotAccess) throws -> BackupConfiguration {
            try files.configuration { $0.snapshots = access }
        }

        func provision(
            _ access: SnapshotAccess, _ operation: Provisioning.Operation = .modify, disposal: HomeDisposal = .keep
        ) async throws {
            var configuration = try configuration(access)
            configuration.onDelete = disposal
            let service = BackupRsnapshotService(
                configuration: configuration, clock: StandingClock(now: Timestamp(secondsSince1970: 1_376_915_696)))
            try await service.carryOut(operation, accountEntry(home: home.text))
        }

        /// A snapshot with a file of the customer's.
        func makeSnapshot(_ name: String = "daily.0") throws {
            let directory = try #require(try SnapshotDirectory.open(in: home)).path.appending(name)
            #expect(mkdir(directory.string, 0o755) == 0)
            let file = directory.appending("file")
            try "precious".write(toFile: file.string, atomically: false, encoding: .utf8)
            for path in [directory, file] { #expect(chown(path.string, number, number) == 0) }
        }

        /// Whether a command of the customer's in its home succeeds.
        func customer(_ command: String) async throws -> Bool {
            let result = try await ScriptRunner().run(
                ScriptInvocation(
                    executable: "/usr/bin/setpriv",
                    arguments: ["--reuid=\(uid)", "--regid=\(uid)", "--clear-groups", "/bin/sh", "-c"]
                        + ["cd \(home.path) && \(command)"],
                    environment: ["PATH": "/usr/bin:/bin"], timeLimit: .seconds(30), grace: .seconds(1)))
            return result.complaint == nil
        }

        var mounts: [MountTable.Mount] { get throws { try MountTable.current().mounts(inside: files.path) } }
        var isShown: Bool { get throws { try store.condition().point == .view(isRestricted: true) } }
        var file: String? { try? text(home.snapshots.pushing("daily.0/file")) }
        var storedFile: String? { try? text(home.store.pushing("daily.0/file")) }
    }

    @Test("a store that others could change is named itself, and not its read-only mount", arguments: [false, true])
    func foreignStore(isOwned: Bool) async throws {
        let account = try await Account(.readonly)
        try account.makeSnapshot()
        let store = account.home.store
        #expect((isOwned ? chown(store.string, number, number) : chmod(store.string, 0o777)) == 0)
        let command = "chown -h root:root \(store); chmod go-w \(store)"
        let failure = try await BackupRsnapshotService(configuration: account.configuration(.readonly)).failure(
            .modify, accountEntry(home: account.home.text))
        #expect(failure?.code == .cannotCheckHomeDirPresence)
        #expect(failure?.hint.hasPrefix("\(command);") == true, "\(failure.map { "\($0)" } ?? "modified")")
        try await runTool("/bin/sh", "-c", command)
        try await account.provision(.readonly)
        #expect(try account.isShown)
    }

    @Test("the snapshots of a home whose place has changed are not deleted")
    func moved() async throws {
        let account = try await Account(.hidden)
        try account.makeSnapshot()
        var configuration = try account.configuration(.hidden)
        configuration.onDelete = .remove
        let entry = accountEntry(home: "\(account.files.homes)/others/\(uid)")
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(.delete, entry)
        #expect(failure?.code == .cannotCheckHomeDirPresence)
        #expect(account.storedFile == "precious" && exists(account.home.path.appending("incoming")))
    }

    /// The settings after a volume was added that holds the homes.
    private func withVolume(
        _ account: Account, _ access: SnapshotAccess, _ disposal: HomeDisposal = .keep
    ) throws -> BackupConfiguration {
        var configuration = try account.configuration(access)
        configuration.onDelete = disposal
        configuration.places.configuredPools = [Pool(name: "Homes", volumes: [account.files.homes.appending("7")])]
        return configuration
    }

    @Test(
        "snapshots in the store of another volume than the home's are not left behind for an empty history, and the commands of the hint move them",
        arguments: [SnapshotAccess.readonly, .hidden, .own])
    func newVolume(access: SnapshotAccess) async throws {
        let account = try await Account(access == .own ? .hidden : access, chroot: true)
        try account.makeSnapshot()
        let configuration = try withVolume(account, access)
        let service = BackupRsnapshotService(configuration: configuration)
        let entry = accountEntry(home: account.home.text)
        let home = try HomePath(parsing: account.home.text, uid: uid, places: configuration.places)
        func homes() throws -> [String] { try account.files.listing().filter { $0.contains("/homes") } }
        let before = try homes()
        for operation in [Provisioning.Operation.add, .modify] {
            let failure = try await service.failure(operation, entry)
            #expect(failure?.code == .cannotCheckHomeDirPresence && failure?.failureClass == .permanent)
            let hint = failure?.hint ?? ""
            #expect(hint.contains("mv -T \(account.home.store) \(home.store).moving && "), "\(hint)")
            #expect(failure?.hint.hasSuffix("run: prov-backup-rsnapshot accounts retry \(uid)") == true)
        }
        for disposal in [HomeDisposal.archive, .remove] {
            let deletion = BackupRsnapshotService(configuration: try withVolume(account, access, disposal))
            #expect(try await deletion.failure(.delete, entry)?.hint.contains("mv -T \(account.home.store) ") == true)
        }
        #expect(try homes() == before)
        let found = try await configuration.snapshotRequirements().filter { !$0.isMet }
        #expect(found.map(\.finding).joined().contains("\(account.home.store) (belongs in \(home.store))"), "\(found)")

        let hint = try #require(try await service.failure(.modify, entry)?.hint)
        let commands = try #require(hint.split(separator: ": ", maxSplits: 1).last?.split(separator: " (after").first)
        try await runTool("/bin/sh", "-c", String(commands))
        try await service.carryOut(.modify, entry)
        let place = try #require(try SnapshotDirectory.open(in: home)).path
        #expect(place == (access == .own ? home.snapshots : home.store))
        #expect(try text(place.pushing("daily.0/file")) == "precious")
        #expect(try await configuration.snapshotRequirements().allSatisfy(\.isMet))
        #expect((account.file == "precious") == (access != .hidden))
    }

    @Test("a home that was moved with snapshots of its own does not need those that it has left elsewhere")
    func movedWhole() async throws {
        let account = try await Account(.own)
        try account.makeSnapshot()
        let entry = accountEntry(home: "\(account.files.homes)/others/\(uid)")
        try account.files.makeDirectory("homes/others")
        let (old, new) = (account.home.path.string, "\(account.files.homes)/others/\(uid)")
        try await runTool("/bin/cp", "-a", old, new)
        let service = BackupRsnapshotService(configuration: try account.configuration(.own))
        try FileManager.default.removeItem(atPath: "\(new)/.snapshots/daily.0")
        let failure = try await service.failure(.modify, entry)
        let move = "mv -T \(old)/.snapshots \(new)/.snapshots.moving && "
        #expect(failure?.hint.contains(move) == true, "\(failure?.hint ?? "")")
        try await runTool("/bin/cp", "-a", "\(old)/.snapshots/daily.0", "\(new)/.snapshots/daily.0")
        try await service.carryOut(.modify, entry)
        #expect(account.file == "precious")
    }

    @Test("a delete that keeps the home does not forget a mount elsewhere, and is done once it is gone")
    func keepElsewhere() async throws {
        let account = try await Account(.readonly)
        try account.makeSnapshot()
        let service = BackupRsnapshotService(configuration: try account.configuration(.readonly))
        let entry = accountEntry(home: "\(account.files.homes)/others/\(uid)")
        let failure = try await service.failure(.delete, entry)
        #expect(failure?.hint.hasPrefix("umount \(account.home.snapshots); ") == true, "\(failure?.hint ?? "deleted")")
        #expect(exists(account.files.configurations.appending("\(uid).conf")))
        try await runTool("/bin/umount", account.home.snapshots.string)
        try await service.carryOut(.delete, entry)
        #expect(!exists(account.files.configurations.appending("\(uid).conf")) && account.storedFile == "precious")
    }

    @Test("the store of a root that has two names is neither misplaced nor counted twice")
    func twoNames() async throws {
        let account = try await Account(.hidden)
        let link = account.files.path.appending("link")
        try account.files.link("link", to: account.files.homes)
        var configuration = try account.configuration(.hidden)
        configuration.places.roots = [link, account.files.homes]
        let looked = try await SnapshotViews.look(configuration)
        #expect(looked.misplaced == [] && looked.unassigned == [] && looked.accounts == 1 && looked.problems == [])
    }

    // MARK: - The customer's access

    private static let changes = [
        "echo x > .snapshots/daily.0/file", "echo x >> .snapshots/daily.0/file", "touch .snapshots/daily.0/new",
        "mv .snapshots/daily.0/file .snapshots/daily.0/other", "chmod 0777 .snapshots/daily.0/file",
        "chmod 0777 .snapshots/daily.0", "touch -d @0 .snapshots/daily.0/file",
        "ln .snapshots/daily.0/file incoming/link", "rm .snapshots/daily.0/file",
        "exec 3< .snapshots/daily.0/file && echo x > /proc/self/fd/3",
        "exec 3< .snapshots/daily.0/file && ln -L /proc/self/fd/3 incoming/link",
        "cd .snapshots/daily.0 && echo x > /proc/self/cwd/file",
        "echo x > ../.store/\(uid)/daily.0/file",
        "unshare -Urm sh -c 'mount -o remount,bind,rw .snapshots && echo x > .snapshots/daily.0/file'",
        "unshare -Urm sh -c 'umount .snapshots && echo x > .snapshots/daily.0/file'",
    ]

    @Test("with readonly a customer reads its snapshots and cannot change, rename or link them in any way")
    func readonly() async throws {
        let account = try await Account(.readonly)
        try account.makeSnapshot()
        #expect(try await account.customer("test $(cat .snapshots/daily.0/file) = precious"))
        let before = status(account.home.store.pushing("daily.0/file"))
        for change in Self.changes { #expect(try await !account.customer(change), "\(change)") }
        #expect(account.storedFile == "precious" && account.file == "precious")
        let after = status(account.home.store.pushing("daily.0/file"))
        #expect(before?.st_mode == after?.st_mode && before?.st_nlink == after?.st_nlink)
        #expect(before?.st_ctim.tv_nsec == after?.st_ctim.tv_nsec)
        let view = try #require(try account.mounts.first)
        #expect(view.point == account.home.snapshots && view.options.isSuperset(of: ["ro", "nosuid", "nodev"]))
        #expect(try account.mounts.count == 1)
    }

    @Test("with hidden a customer cannot reach its snapshots")
    func hidden() async throws {
        let account = try await Account(.hidden)
        try account.makeSnapshot()
        let attempts = Self.changes + ["ls .snapshots", "cat .snapshots/daily.0/file", "ls ../.store"]
        for attempt in attempts { #expect(try await !account.customer(attempt), "\(attempt)") }
        #expect(account.storedFile == "precious")
        #expect(status(account.home.snapshots).map { $0.st_mode & 0o7777 } == 0o700)
        #expect(try account.mounts == [])
    }

    @Test("with own a customer can change its snapshots, so the tests of the other two settings are valid")
    func own() async throws {
        let account = try await Account(.own)
        for change in Self.changes where !change.contains(".store") && !change.contains("unshare") {
            unlink(account.home.path.pushing("incoming/link").string)
            try await account.provision(.own)
            try? FileManager.default.removeItem(atPath: account.home.snapshots.appending("daily.0").string)
            try account.makeSnapshot()
            #expect(try await account.customer(change), "\(change)")
        }
        #expect(!exists(account.home.store.removingLastComponent()))
    }

    @Test("the parent of all stores belongs to root, and one that others could enter is refused with the fix")
    func parent() async throws {
        let account = try await Account(.readonly)
        let stores = account.home.store.removingLastComponent()
        #expect(status(stores).map { $0.st_mode & 0o7777 } == 0o700)
        #expect(chmod(stores.string, 0o755) == 0)
        let failure = #expect(throws: ProvisioningFailure.self) { try account.store.condition() }
        #expect(failure?.hint.hasSuffix("chmod 0700 \(stores)") == true)
    }

    // MARK: - Moving

    private static let moves: [(SnapshotAccess, SnapshotAccess)] = SnapshotAccess.allCases.flatMap { first in
        SnapshotAccess.allCases.filter { $0 != first }.map { (first, $0) }
    }

    @Test(
        "a change of the setting moves the snapshots with the next modify, and the configuration names where they are",
        arguments: moves)
    func move(from old: SnapshotAccess, to new: SnapshotAccess) async throws {
        let account = try await Account(old, chroot: true)
        try account.makeSnapshot()
        let place = try #require(try SnapshotDirectory.open(in: account.home)).path
        let inode = status(place)?.st_ino
        try await account.provision(new)
        let wanted = new == .own ? account.home.snapshots : account.home.store
        #expect(try SnapshotDirectory.open(in: account.home)?.path == wanted)
        #expect(status(wanted)?.st_ino == inode, "the directory itself is moved")
        #expect(try text(wanted.pushing("daily.0/file")) == "precious")
        #expect(try account.isShown == (new == .readonly))
        #expect(try account.mounts.count == (new == .readonly ? 1 : 0))
        #expect((account.file == "precious") == (new != .hidden))
        let lines = try text(account.files.configurations.appending("\(uid).conf")).split(separator: "\n")
        #expect(lines.contains("snapshot_root\t\(wanted)/"))
        let steps = try await BackupRsnapshotService(configuration: account.configuration(new))
            .plan(request(.add, accountEntry(home: account.home.text)))
        #expect(steps.map(\.name) == ["rsnapshot configuration"], "nothing is left to be done")
    }

    @Test(
        "a move that crashes twice, before any call, leaves all snapshots complete in one place, and the next one completes it",
        arguments: moves)
    func crashes(from old: SnapshotAccess, to new: SnapshotAccess) async throws {
        let account = try await Account(old)
        try account.makeSnapshot()
        for first in 1...6 {
            for second in 1...6 {
                for place in [first, second] {
                    try? SnapshotStore(account.home, crashingAt: place).settle(new)
                    let directory = try #require(try SnapshotDirectory.open(in: account.home))
                    #expect(try directory.snapshots().count == 1, "crash \(place)")
                    #expect(try text(directory.path.pushing("daily.0/file")) == "precious")
                    let holders = [account.home.store, account.home.snapshots].filter {
                        exists($0.appending("daily.0"))
                            && (try? account.store.condition().point) != .view(isRestricted: true)
                    }
                    #expect(holders.count <= 1, "never twice")
                }
                try account.store.settle(new)
                #expect(try account.store.condition().isInStore == (new != .own))
                #expect(try account.isShown == (new == .readonly))
                #expect(try account.mounts.count == (new == .readonly ? 1 : 0))
                try account.store.settle(old)
                #expect(try account.store.condition().isInStore == (old != .own))
            }
        }
    }

    @Test("the shipped home script does not change a mount at .snapshots")
    func homeScript() async throws {
        let account = try await Account(.readonly)
        try account.makeSnapshot()
        var configuration = try account.configuration(.readonly)
        configuration.homeScript = shippedScript
        let service = BackupRsnapshotService(configuration: configuration)
        for _ in 1...2 {
            try await service.carryOut(.modify, accountEntry(home: account.home.text))
            #expect(try account.isShown && account.mounts.count == 1)
        }
        #expect(account.file == "precious" && account.storedFile == "precious")
    }

    @Test("files in the mount point prevent the snapshots from being moved back, and neither is lost")
    func inTheWay() async throws {
        let account = try await Account(.hidden)
        try account.makeSnapshot()
        try account.files.write("other", to: FilePath("homes/\(uid)/.snapshots/file"))
        let failure = try await BackupRsnapshotService(configuration: account.configuration(.own))
            .failure(.modify, accountEntry(home: account.home.text))
        #expect(failure?.code == .cannotCreateHomeDir)
        #expect(account.storedFile == "precious")
        #expect(try text(account.home.snapshots.appending("file")) == "other")
        try FileManager.default.removeItem(atPath: account.home.snapshots.appending("file").string)
        try await account.provision(.own)
        #expect(account.file == "precious")
    }

    @Test(
        "a mount whose snapshots were taken away is named, with the command that removes it"
    )
    func storeGone() async throws {
        let account = try await Account(.readonly)
        try account.makeSnapshot()
        try FileManager.default.removeItem(atPath: account.home.store.string)
        let notices = try account.store.notices(.readonly)
        #expect(
            notices.count == 1 && notices.first?.hasSuffix("umount \(account.home.snapshots)") == true)
    }

    @Test("where there are no snapshots, none are said to lie in the wrong place")
    func noSnapshots() async throws {
        let account = try await Account(.own)
        #expect(try account.store.notices(.readonly).count == 1)
        #expect(rmdir(account.home.snapshots.string) == 0)
        for access in SnapshotAccess.allCases { #expect(try account.store.notices(access) == []) }
    }

    @Test(
        "a second tree at .snapshots, as in a copy that was made through the mount, is closed to the customer and reported, and not covered; the commands of the hint put it away",
        arguments: [SnapshotAccess.readonly, .hidden])
    func secondTree(access: SnapshotAccess) async throws {
        let account = try await Account(access)
        try account.makeSnapshot()
        account.files.unmountAll()
        let (point, store) = (account.home.snapshots, account.home.store)
        try await runTool("/bin/cp", "-al", "\(store)/daily.0", "\(point)/daily.0")
        #expect(chmod(point.string, 0o755) == 0)
        #expect(
            try await account.customer("test -w .snapshots/daily.0/file"), "without a fix it could write to the store")
        let tree = "\(point)/daily.0/file"

        let archive = account.home.base.appending(".deleted")
        let move = "mv -T \(point) \(archive)/\(uid)-others"
        #expect(try account.store.notices(access).count == 1)
        #expect(try account.store.notices(access).first?.contains(move) == true)
        let unmet = try await account.configuration(access).snapshotRequirements().filter { !$0.isMet }
        #expect(unmet.count == 1 && unmet.first?.finding.contains(point.string) == true, "\(unmet)")
        let report = try await SnapshotViews.restore(account.configuration(access))
        #expect(report.problems.count == 1 && report.problems.first?.contains(move) == true, "\(report.problems)")
        #expect(report.changed == [] && report.occupied == [point])
        #expect(try await !account.customer("test -w .snapshots/daily.0/file"))

        let service = BackupRsnapshotService(configuration: try account.configuration(access))
        let entry = accountEntry(home: account.home.text)
        let failure = try await service.failure(.modify, entry)
        #expect(failure?.code == .cannotCreateHomeDir && failure?.failureClass == .permanent)
        #expect(failure?.hint.hasSuffix("then run: prov-backup-rsnapshot accounts retry \(uid)") == true)
        #expect(try account.mounts == [])
        #expect(try text(FilePath(tree)) == "precious" && account.storedFile == "precious")

        let commands = try #require(
            failure?.hint.split(separator: ": ", maxSplits: 1).last?.split(separator: "; ").first)
        try await runTool("/bin/sh", "-c", String(commands))
        try await service.carryOut(.modify, entry)
        #expect(try account.isShown == (access == .readonly))
        #expect(account.storedFile == "precious")
        #expect(try text(FilePath("\(archive)/\(uid)-others/daily.0/file")) == "precious")
        #expect(try account.store.notices(access) == [])
        #expect(try await account.configuration(access).snapshotRequirements().allSatisfy(\.isMet))
    }

    @Test(
        "files that an earlier version has covered by the mount are seen as soon as it is gone",
        arguments: [SnapshotAccess.own, .hidden])
    func covered(access: SnapshotAccess) async throws {
        let account = try await Account(.readonly)
        try account.makeSnapshot()
        account.files.unmountAll()
        let (point, store) = (account.home.snapshots, account.home.store)
        try account.files.write("other", to: FilePath("homes/\(uid)/.snapshots/other"))
        try await runTool("/bin/mount", "--bind", store.string, point.string)
        try account.store.show(.readonly)
        #expect(try account.isShown)
        let failure = try await BackupRsnapshotService(configuration: account.configuration(access))
            .failure(.modify, accountEntry(home: account.home.text))
        #expect(failure?.hint.contains("mv -T \(point) ") == true, "\(failure?.hint ?? "")")
        #expect(try account.mounts == [])
        #expect(status(point).map { $0.st_mode & 0o7777 } == 0o700)
        #expect(try text(point.appending("other")) == "other" && account.storedFile == "precious")
    }

    @Test("a foreign mount at .snapshots is neither covered nor removed")
    func foreign() async throws {
        let account = try await Account(.own)
        let mount = try TestMount(at: account.home.snapshots)
        for access in [SnapshotAccess.readonly, .hidden] {
            let failure = try await BackupRsnapshotService(configuration: account.configuration(access))
                .failure(.modify, accountEntry(home: account.home.text))
            #expect(failure?.hint == "umount \(account.home.snapshots)")
        }
        #expect(try account.mounts.count == 1)
        withExtendedLifetime(mount) {}
    }

    @Test("homes on another file system than their volume are refused with the fix, and nothing is changed")
    func otherFileSystem() async throws {
        let files = try TestDirectory()
        let mount = try TestMount(at: try files.makeDirectory("homes/disk"))
        let entry = accountEntry(home: "\(files.homes)/disk/\(uid)")
        try await BackupRsnapshotService(configuration: files.configuration()).carryOut(.add, entry)
        let failure = try await BackupRsnapshotService(configuration: files.configuration { $0.snapshots = .readonly })
            .failure(.modify, entry)
        #expect(failure?.code == .cannotCreateHomeDir && failure?.failureClass == .configuration)
        #expect(failure?.hint.contains("VOLUMES") == true)
        #expect(exists(files.homes.pushing(FilePath("disk/\(uid)/.snapshots"))))
        withExtendedLifetime(mount) {}
    }

    @Test("a mount that was made writable is made read-only again")
    func remounted() async throws {
        let account = try await Account(.readonly)
        let flags = UInt(MS_REMOUNT) | UInt(MS_BIND)
        #expect(mount("none", account.home.snapshots.string, nil, flags, nil) == 0)
        #expect(try account.store.condition().point == .view(isRestricted: false))
        try account.store.show(.readonly)
        #expect(try account.isShown)
    }

    // MARK: - Deletion

    private func archived(_ account: Account) throws -> [String] {
        let directory = account.files.homes.appending(".deleted").string
        return try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
    }

    @Test("keep leaves home and snapshots where they are and nothing mounted, and adding the account again shows them")
    func keep() async throws {
        let account = try await Account(.readonly)
        try account.makeSnapshot()
        for _ in 1...2 { try await account.provision(.readonly, .delete, disposal: .keep) }
        #expect(account.storedFile == "precious" && exists(account.home.path))
        #expect(try account.mounts == [])
        let report = try await SnapshotViews.restore(account.configuration(.readonly))
        #expect(report.unassigned == [account.home.store] && report.accounts == 0)
        #expect(try account.mounts == [])
        try await account.provision(.readonly, .add)
        #expect(account.file == "precious")
    }

    @Test(
        "archive keeps home and snapshots in one directory, also after a crash before any of its calls",
        arguments: 0...4)
    func archive(crash: Int) async throws {
        let account = try await Account(.readonly, chroot: true)
        try account.makeSnapshot()
        if crash > 0 { try? SnapshotStore(account.home, crashingAt: crash).settle(.own) }
        for _ in 1...2 { try await account.provision(.readonly, .delete, disposal: .archive) }
        #expect(!exists(account.home.accountDirectory) && !exists(account.home.store))
        #expect(try account.mounts == [])
        #expect(try archived(account) == ["\(uid)-20130819T123456Z"])
        let file = account.files.homes.pushing(
            FilePath(".deleted/\(uid)-20130819T123456Z/chroot/home/\(uid)/.snapshots/daily.0/file"))
        #expect(try text(file) == "precious")
    }

    @Test("archive gives snapshots that the home cannot take back a name of their own", arguments: [true, false])
    func archiveApart(hasHome: Bool) async throws {
        let account = try await Account(.hidden)
        try account.makeSnapshot()
        if hasHome {
            try account.files.write("other", to: FilePath("homes/\(uid)/.snapshots/file"))
        } else {
            try FileManager.default.removeItem(atPath: account.home.path.string)
        }
        for _ in 1...2 { try await account.provision(.hidden, .delete, disposal: .archive) }
        let names = ["\(uid)-20130819T123456Z"] + (hasHome ? ["\(uid)-20130819T123456Z-2"] : [])
        #expect(try archived(account) == names)
        #expect(try text(account.files.homes.pushing(FilePath(".deleted/\(names[0])/daily.0/file"))) == "precious")
        #expect(!exists(account.home.store) && !exists(account.home.path))
    }

    @Test("remove deletes the snapshots too, but not those of another account")
    func remove() async throws {
        let account = try await Account(.readonly)
        try account.makeSnapshot()
        try account.files.makeDirectory("homes/.store/4000000/daily.0")
        for _ in 1...2 { try await account.provision(.readonly, .delete, disposal: .remove) }
        #expect(!exists(account.home.path) && !exists(account.home.store))
        #expect(try account.mounts == [])
        #expect(exists(account.files.homes.pushing(".store/4000000/daily.0")))
    }

    // MARK: - After a boot

    @Test("after a boot all homes show their snapshots again, with one mount each, also after two concurrent runs")
    func restore() async throws {
        let files = try TestDirectory()
        let configuration = try files.configuration { $0.snapshots = .readonly }
        let uids = (0..<20).map { "\(4_000_000 + $0)" }
        for uid in uids {
            try await BackupRsnapshotService(configuration: configuration).carryOut(.add, files.entry(uid: uid))
        }
        let points = Set(uids.map { files.homes.appending($0).appending(".snapshots") })
        func shown() throws -> [FilePath] {
            try MountTable.current().mounts(inside: files.path).filter { $0.options.contains("ro") }.map(\.point)
        }
        #expect(try Set(shown()) == points)
        files.unmountAll()
        #expect(try await SnapshotViews.look(configuration).changed.count == uids.count)
        let unmet = try await configuration.snapshotRequirements().filter { !$0.isMet }
        #expect(unmet.map(\.subject) == ["SNAPSHOTS"])
        async let first = SnapshotViews.restore(configuration)
        async let second = SnapshotViews.restore(configuration)
        #expect(try await [first, second].allSatisfy { $0.accounts == uids.count && $0.problems == [] })
        #expect(try shown().count == uids.count && Set(shown()) == points)
        #expect(try await SnapshotViews.restore(configuration).changed == [])
        #expect(try await configuration.snapshotRequirements().map(\.isMet) == [true])

        let hidden = try files.configuration { $0.snapshots = .hidden }
        #expect(try await SnapshotViews.restore(hidden).changed.count == uids.count)
        #expect(try shown() == [])
    }
}

extension SnapshotStore {
    /// - Parameter place: of the call that does not happen any more, 1 for the first.
    fileprivate init(_ home: HomePath, crashingAt place: Int) {
        self.init(home)
        let made = Atomic(0)
        beforeEach = { call throws(ProvisioningFailure) in
            if made.add(1, ordering: .relaxed).newValue == place {
                throw ProvisioningFailure(.undefinedError, reason: "crash before \(call)", hint: "")
            }
        }
    }
}

/// Backups of accounts with snapshots in the store.
@Suite(
    .enabled(
        if: isRoot && BackupHarness.hasRsnapshot, "needs root to mount, and rsnapshot: apt install rsnapshot"))
struct SnapshotStoreBackupTests {
    private func store(_ harness: BackupHarness) -> FilePath {
        harness.directory.homes.pushing(FilePath(".store/\(uid)"))
    }

    @Test(
        "unchanged files are shared between snapshots, their owner stays the account, and sizes are those of du",
        arguments: [SnapshotAccess.readonly, .hidden])
    func shared(access: SnapshotAccess) async throws {
        try await BackupHarness.run({ $0.snapshots = access }) { harness in
            try await harness.addProvisioned(uid)
            try harness.directory.write("same", to: FilePath("homes/\(uid)/incoming/same"), mode: 0o400)
            for content in ["old", "newer"] {
                try harness.directory.write(content, to: FilePath("homes/\(uid)/incoming/changing"))
                #expect(try await harness.backup(.daily, uid) == .success)
            }
            let store = store(harness)
            let (newest, older) = (status(store.pushing("daily.0/same")), status(store.pushing("daily.1/same")))
            #expect(newest?.st_ino == older?.st_ino && newest?.st_nlink == 2)
            #expect(newest?.st_uid == number && newest?.st_mode == older?.st_mode)
            #expect(try text(store.pushing("daily.0/changing")) == "newer")
            #expect(try text(store.pushing("daily.1/changing")) == "old")
            #expect(exists(harness.snapshot("daily.1/same", of: uid)) == (access == .readonly))
            let all = try await du([store])
            #expect(try await harness.values("sstBackupSize", of: uid) == all.map(String.init))
        }
    }

    @Test("an account that was not modified since the setting changed is backed up where it is, and explain says so")
    func notYet() async throws {
        try await BackupHarness.run({ $0.snapshots = .own }) { harness in
            try await harness.addProvisioned(uid)
            #expect(try await harness.backup(.daily, uid) == .success)
            for access in [SnapshotAccess.readonly, .hidden] {
                #expect(try await harness.backup(.daily, uid, snapshots: access) == .success)
                let inspection = try await harness.inspection(of: uid, snapshots: access)
                #expect(inspection.notices.count == 1 && inspection.obstacles == [])
                #expect(inspection.notices.first?.contains("\(harness.home(uid))/.snapshots") == true)
            }
            #expect(try await harness.inspection(of: uid, snapshots: .own).notices == [])
            #expect(try harness.snapshots(of: uid).count == 3)
        }
    }

    @Test(
        "after a move between own and readonly that is interrupted before any call, the next backup succeeds",
        arguments: 1...7)
    func betweenCalls(place: Int) async throws {
        try await BackupHarness.run({ $0.snapshots = .readonly }) { harness in
            try await harness.addProvisioned(uid)
            #expect(try await harness.backup(.daily, uid) == .success)
            let home = try HomePath(
                parsing: harness.home(uid).string, uid: uid, places: harness.configuration.places)
            var made = 1
            for access in [SnapshotAccess.own, .readonly] {
                try? SnapshotStore(home, crashingAt: place).settle(access)
                #expect(try await harness.backup(.daily, uid, snapshots: access) == .success)
                made += 1
                #expect(try SnapshotDirectory.open(in: home)?.snapshots().count == made)
                try SnapshotStore(home).settle(access)
                #expect(try SnapshotDirectory.open(in: home)?.snapshots().count == made)
            }
        }
    }

    @Test("while a copy runs, which can write to the store, its customer cannot reach the store through it")
    func whileCopying() async throws {
        try await BackupHarness.run({ $0.snapshots = .readonly }) { harness in
            try await harness.addProvisioned(uid)
            try harness.directory.write("precious", to: FilePath("homes/\(uid)/incoming/file"))
            #expect(try await harness.backup(.daily, uid) == .success)
            let script = FilePath("homes/\(uid)/rsync")
            let slow = harness.directory.path.pushing(script)
            // It starts no program while it waits: before the exec, that would be one more copy.
            try harness.directory.write(
                "#!/bin/sh\nwhile [ ! -e \(slow).go ] && [ -e \"$0\" ]; do :; done\nexec /usr/bin/rsync \"$@\"\n",
                to: script, mode: 0o755)
            let file = harness.configuration.configurationDirectory.appending("\(uid).conf")
            let changed = try text(file).replacing("cmd_rsync\t/usr/bin/rsync", with: "cmd_rsync\t\(slow)")
            try harness.directory.write(changed, to: FilePath("rsnapshot.d/\(uid).conf"))
            async let outcome = harness.backup(.daily, uid)

            func command(_ process: String) -> String { (try? text(FilePath("/proc/\(process)/cmdline"))) ?? "" }
            func copies() throws -> [String] {
                try FileManager.default.contentsOfDirectory(atPath: "/proc")
                    .filter { Int($0) != nil && command($0).contains("\(slow)\0") }
            }
            // The sandbox, whose processes have the program's name as well, is complete when the program runs.
            try await eventually("the copy runs") { try copies().contains { command($0).hasPrefix("/bin/sh\0") } }
            let target = "\(store(harness))/daily.0/file"
            for process in try copies() {
                let place = "/proc/\(process)/root\(target)"
                let attempt = try await ScriptRunner().run(
                    ScriptInvocation(
                        executable: "/usr/bin/setpriv",
                        arguments: ["--reuid=\(uid)", "--regid=\(uid)", "--clear-groups"]
                            + ["/bin/sh", "-c", "echo x > \(place) || exec 3< \(place)"],
                        environment: ["PATH": "/usr/bin:/bin"], timeLimit: .seconds(30), grace: .seconds(1)))
                #expect(attempt.complaint != nil, "\(place)")
                #expect(exists(FilePath(place)), "root reaches it there: the attempt was one")
            }
            try harness.directory.write("", to: FilePath("\(script).go"))
            #expect(try await outcome == .success)
            #expect(try text(store(harness).pushing("daily.1/file")) == "precious")
        }
    }

    @Test("a backup restores a mount after a boot; a failed mount is a warning")
    func shows() async throws {
        try await BackupHarness.run({ $0.snapshots = .readonly }) { harness in
            try await harness.addProvisioned(uid)
            harness.directory.unmountAll()
            #expect(try await harness.inspection(of: uid, snapshots: .readonly).notices.count == 1)
            #expect(try await harness.backup(.daily, uid) == .success)
            #expect(try harness.snapshots(of: uid).count == 1)
            harness.directory.unmountAll()
            let other = try TestMount(at: harness.home(uid).appending(".snapshots"))
            let outcome = try await harness.backup(.daily, uid)
            #expect(outcome.result == .warnings && outcome.message.contains("umount "), "\(outcome)")
            #expect(exists(store(harness).appending("daily.1")))
            withExtendedLifetime(other) {}
        }
    }

    @Test(
        "files at .snapshots are a warning of the backup and a notice, and do not prevent it; it shows the snapshots once they are away"
    )
    func besideFiles() async throws {
        try await BackupHarness.run({ $0.snapshots = .readonly }) { harness in
            try await harness.addProvisioned(uid)
            #expect(try await harness.backup(.daily, uid) == .success)
            harness.directory.unmountAll()
            let point = harness.home(uid).appending(".snapshots")
            try harness.directory.write("other", to: FilePath("homes/\(uid)/.snapshots/file"))
            let outcome = try await harness.backup(.daily, uid)
            #expect(outcome.result == .warnings && outcome.message.contains("mv -T \(point) "), "\(outcome)")
            #expect(exists(store(harness).appending("daily.1")))
            let inspection = try await harness.inspection(of: uid, snapshots: .readonly)
            #expect(inspection.notices.count == 1 && inspection.obstacles == [])
            #expect(inspection.notices.first?.contains("mv -T \(point) ") == true)
            #expect(try text(point.appending("file")) == "other")
            try await runTool("/bin/mv", "-T", point.string, "\(store(harness)).other")
            #expect(try await harness.backup(.daily, uid) == .success)
            #expect(exists(point.appending("daily.2")))
        }
    }

    @Test("rsnapshot by hand works with the account's configuration")
    func byHand() async throws {
        try await BackupHarness.run({ $0.snapshots = .readonly }) { harness in
            try await harness.addProvisioned(uid)
            #expect(try await harness.backup(.daily, uid) == .success)
            let file = harness.configuration.configurationDirectory.appending("\(uid).conf")
            let result = try await ScriptRunner().run(
                ScriptInvocation(
                    executable: "/usr/bin/rsnapshot", arguments: ["-c", file.string, "daily"],
                    environment: ["PATH": "/usr/bin:/bin"], timeLimit: .seconds(60), grace: .seconds(1)))
            #expect(result.complaint == nil, "\(result.outputTail)")
            #expect(try harness.snapshots(of: uid).keys.sorted() == ["daily.0", "daily.1"])
        }
    }

    @Test("without a sandbox a copy cannot reach the store: the failure says so, and no snapshot is touched")
    func withoutSandbox() async throws {
        try await BackupHarness.run({ $0.snapshots = .readonly }) { harness in
            try await harness.addProvisioned(uid)
            #expect(try await harness.backup(.daily, uid) == .success)
            let before = try harness.snapshots(of: uid)
            let outcome = try await harness.backup(.daily, uid, snapshots: .own, confinement: .off)
            #expect(outcome.result == .wrongConfiguration && outcome.message.contains("BACKUP_SANDBOX"), "\(outcome)")
            #expect(try harness.snapshots(of: uid) == before)
        }
    }
}
