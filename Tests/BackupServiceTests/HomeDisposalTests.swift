import LDAP
import Dispatch
import EventLoop
import Foundation
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// A clock with a fixed time.
struct StandingClock: WallClock {
    var now: Timestamp
    func sleep(until deadline: Timestamp) async throws {}
}

@Suite struct HomeDisposalTests {
    @Test("an account is added and modified during long walks through trees of other accounts")
    func besideWalks() async throws {
        let directory = try TestDirectory()
        let gate = DispatchSemaphore(value: 0)
        let walks = 20
        // More than there are threads.
        for _ in 0..<walks { WorkerPool.walks.begin { gate.wait() } }
        defer { for _ in 0..<walks { gate.signal() } }
        let service = BackupRsnapshotService(configuration: try directory.configuration())
        try await service.carryOut(.add, directory.entry())
        try await service.carryOut(.modify, directory.entry())
        #expect(exists(directory.homes.pushing("3723707/incoming")))
    }

    /// 2013-08-19T12:34:56Z.
    private let now = Timestamp(secondsSince1970: 1_376_915_696)

    private func service(_ directory: TestDirectory, _ disposal: HomeDisposal) throws -> BackupRsnapshotService {
        try BackupRsnapshotService(
            configuration: directory.configuration { $0.onDelete = disposal }, clock: StandingClock(now: now))
    }

    private func entry(_ directory: TestDirectory) -> Entry {
        accountEntry(home: directory.homes.string + "/7/707/723/3723707/chroot/./home/3723707")
    }

    /// An account with files, and with links to files outside.
    private func makeAccount(_ directory: TestDirectory) async throws -> FilePath {
        try await service(directory, .keep).carryOut(.add, entry(directory))
        let account: FilePath = "homes/7/707/723/3723707"
        try directory.write("precious", to: "outside")
        try directory.write("upload", to: account.pushing("chroot/home/3723707/incoming/file"))
        try directory.makeDirectory("others/inside")
        try directory.write("precious", to: "others/inside/file")
        try directory.link(
            account.pushing("chroot/home/3723707/incoming/directory"), to: directory.path.appending("others"))
        try directory.link(
            account.pushing("chroot/home/3723707/incoming/link"), to: directory.path.appending("outside"))
        return directory.path.pushing(account)
    }

    @Test("keep removes the configuration and does not change the home")
    func keep() async throws {
        let directory = try TestDirectory()
        let account = try await makeAccount(directory)
        try await service(directory, .keep).carryOut(.delete, entry(directory))
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.configurations.string) == [])
        #expect(exists(account.pushing("chroot/home/3723707/incoming/file")))
    }

    @Test(
        "archive renames the account's directory to a unique name, and can be repeated"
    )
    func archive() async throws {
        let directory = try TestDirectory()
        for expected in ["3723707-20130819T123456Z", "3723707-20130819T123456Z-2"] {
            let account = try await makeAccount(directory)
            let inode = status(account)?.st_ino
            for _ in 1...2 { try await service(directory, .archive).carryOut(.delete, entry(directory)) }
            #expect(!exists(account))
            #expect(status(directory.homes.appending(".deleted").appending(expected))?.st_ino == inode)
        }
        #expect(status(directory.homes.appending(".deleted")).map { $0.st_mode & 0o7777 } == 0o700)
        #expect(exists(directory.homes.pushing("7/707/723")), "directories that other accounts may share stay")
    }

    @Test(
        "a home that is another entry's by now is neither archived nor removed, and no script is run for it",
        arguments: [HomeDisposal.archive, .remove])
    func shared(disposal: HomeDisposal) async throws {
        let directory = try TestDirectory()
        let account = try await makeAccount(directory)
        let mark = directory.path.appending("script-ran")
        let script = try directory.write("#!/bin/sh\ntouch \(mark)\n", to: "scripts/home.sh", mode: 0o755)
        for script in [nil, script] {
            let service = BackupRsnapshotService(
                configuration: try directory.configuration { ($0.onDelete, $0.homeScript) = (disposal, script) },
                clock: StandingClock(now: now))
            let failure = ProvisioningFailure(.undefinedError, reason: "two entries", hint: "remove one")
            let steps = try await service.plan(request(.delete, entry(directory)) { throw failure })
            let thrown = await #expect(throws: ProvisioningFailure.self) {
                for step in steps { try await step.perform(in: .alone(1, scripts: ScriptRunner())) }
            }
            #expect(thrown == failure)
            #expect(exists(account.pushing("chroot/home/3723707/incoming/file")) && !exists(mark))
        }
    }

    @Test(
        "a home that is not there although its configuration is, as on a volume that is not mounted, is not taken for removed",
        arguments: [HomeDisposal.archive, .remove], [false, true])
    func notMounted(disposal: HomeDisposal, leavesMountPoint: Bool) async throws {
        let directory = try TestDirectory()
        let account = try await makeAccount(directory)
        let away = directory.path.appending("away")
        try #require(rename(account.string, away.string) == 0)
        if leavesMountPoint { try directory.makeDirectory("homes/7/707/723/3723707") }
        let service = try service(directory, disposal)
        let before = try directory.listing()
        let failure = try await service.failure(.delete, entry(directory))
        #expect(failure?.code == .cannotCheckHomeDirPresence, "\(failure.map { "\($0)" } ?? "deleted")")
        let file = directory.configurations.appending("3723707.conf")
        #expect(failure?.hint.contains("rm \(file)") == true)
        #expect(try directory.listing() == before)

        if leavesMountPoint { try #require(rmdir(account.string) == 0) }
        try #require(rename(away.string, account.string) == 0)
        try await service.carryOut(.delete, entry(directory))
        #expect(!exists(account) && !exists(file))
    }

    @Test(
        "a home that is lost is deleted without its configuration, as the hint says, and with ON_DELETE = keep in any case"
    )
    func lostHome() async throws {
        for disposal in [HomeDisposal.archive, .keep] {
            let directory = try TestDirectory()
            let account = try await makeAccount(directory)
            try #require(rename(account.string, directory.path.appending("away").string) == 0)
            let file = directory.configurations.appending("3723707.conf")
            if disposal == .archive { try #require(unlink(file.string) == 0) }
            try await service(directory, disposal).carryOut(.delete, entry(directory))
            #expect(!exists(file))
        }
    }

    @Test(
        "no home is archived while the clock may be wrong, since it would be purged too early; a removal does not wait")
    func doubtedClock() async throws {
        let directory = try TestDirectory()
        let account = try await makeAccount(directory)
        var service = try service(directory, .archive)
        let until = now + .seconds(86_400)
        service.clockDoubtedUntil = { until }
        let before = try directory.listing()
        let failure = try await service.failure(.delete, entry(directory))
        #expect(failure?.failureClass == .shortage, "\(failure.map { "\($0)" } ?? "archived")")
        #expect(failure?.hint.contains(until.text) == true)
        #expect(try directory.listing() == before)
        service.clockDoubtedUntil = { nil }
        try await service.carryOut(.delete, entry(directory))
        #expect(!exists(account))

        _ = try await makeAccount(directory)
        var removal = try self.service(directory, .remove)
        removal.clockDoubtedUntil = { until }
        try await removal.carryOut(.delete, entry(directory))
        #expect(!exists(account))
    }

    @Test("remove deletes all files of the account and no targets of its links")
    func remove() async throws {
        let directory = try TestDirectory()
        let account = try await makeAccount(directory)
        let before = try directory.listing().filter {
            $0.contains("outside") || $0.contains("/others") && !$0.contains("3723707")
        }
        try await service(directory, .remove).carryOut(.delete, entry(directory))
        #expect(!exists(account))
        let after = try directory.listing()
        #expect(before.allSatisfy(after.contains))
        #expect(try text(directory.path.pushing("others/inside/file")) == "precious")
        try await service(directory, .remove).carryOut(.delete, entry(directory))
    }

    @Test("needs root: a mount inside an account stops a removal before anything is removed", .enabled(if: isRoot))
    func mounted() async throws {
        let directory = try TestDirectory()
        let account = try await makeAccount(directory)
        let target = account.pushing("chroot/home/3723707/incoming/mounted")
        try directory.makeDirectory("homes/7/707/723/3723707/chroot/home/3723707/incoming/mounted")
        let mount = try TestMount(directory.path.appending("others"), at: target)
        defer { withExtendedLifetime(mount) {} }
        let service = try service(directory, .remove)
        let before = try directory.listing()
        let steps = try await service.plan(request(.delete, entry(directory)))
        var failure: ProvisioningFailure?
        do { try await steps.last?.perform(in: .alone()) } catch let error as ProvisioningFailure { failure = error }
        #expect(failure?.hint.hasPrefix("umount ") == true, "\(failure.map { "\($0)" } ?? "was removed")")
        #expect(try directory.listing() == before)

        // The walk itself does not cross the mount either.
        let parent = try HeldDirectory(configured: account.removingLastComponent())
        #expect(throws: HeldDirectory.Failure.self) { try TreeRemoval { false }.remove("3723707", in: parent) }
        #expect(try text(directory.path.pushing("others/inside/file")) == "precious")
    }

    @Test(
        "needs root: a home on another file system than its volume is not archived, and the reason says what to do",
        .enabled(if: isRoot))
    func otherFileSystem() async throws {
        let directory = try TestDirectory()
        let mountPoint = try directory.makeDirectory("homes/disk")
        let mount = try TestMount(at: mountPoint)
        defer { withExtendedLifetime(mount) {} }
        let entry = accountEntry(home: mountPoint.appending("3723707").string)
        try await service(directory, .keep).carryOut(.add, entry)
        let failure = try await service(directory, .archive).failure(.delete, entry)
        #expect(failure?.code == .undefinedError)
        #expect(failure?.hint.contains("VOLUMES") == true, "\(failure.map { "\($0)" } ?? "")")
        #expect(exists(mountPoint.appending("3723707")))

        let configuration = try directory.configuration {
            $0.places = HomePlaces(
                roots: [directory.homes], configuredPools: [Pool(name: "test", volumes: [mountPoint])])
            $0.onDelete = .archive
        }
        try await BackupRsnapshotService(configuration: configuration).carryOut(.delete, entry)
        #expect(!exists(mountPoint.appending("3723707")))
        #expect(exists(mountPoint.appending(".deleted")))
    }

    @Test("a deletion removes the configuration first, and a failed script prevents the removal of the home")
    func order() async throws {
        let directory = try TestDirectory()
        let account = try await makeAccount(directory)
        var configuration = try directory.configuration { $0.onDelete = .remove }
        configuration.homeScript = try directory.script(
            "ls \(directory.configurations) > \(directory.path)/seen; exit 1")
        let service = BackupRsnapshotService(configuration: configuration)
        #expect(
            try await service.plan(request(.delete, entry(directory))).map(\.name) == [
                "rsnapshot configuration", "home script", "home",
            ])
        #expect(try await service.failure(.delete, entry(directory))?.code == .cannotCreateHomeDir)
        #expect(try text(directory.path.appending("seen")) == "")
        #expect(exists(account))
    }

    @Test(
        "a removal that TIMEOUT stops leaves nothing that an add takes for a home, and another attempt continues it",
        arguments: [false, true])
    func removalCutOff(isAddedAgain: Bool) async throws {
        let directory = try TestDirectory()
        let account = try await makeAccount(directory)
        let cutOff = BackupRsnapshotService(
            configuration: try directory.configuration { ($0.onDelete, $0.timeLimit) = (.remove, .zero) },
            clock: StandingClock(now: now))
        let failure = try #require(try await cutOff.failure(.delete, entry(directory)))
        #expect(failure.failureClass == .retryable, "\(failure)")
        #expect(failure.reason == "\(account) could not be removed within TIMEOUT")
        let left = directory.homes.pushing(".deleted/.removed-3723707-1")
        #expect(!exists(account) && exists(left))
        if isAddedAgain {
            try await service(directory, .keep).carryOut(.add, entry(directory))
            #expect(exists(account.pushing("chroot/home/3723707/incoming")))
            #expect(!exists(account.pushing("chroot/home/3723707/incoming/file")))
        }
        try await service(directory, .remove).carryOut(.delete, entry(directory))
        #expect(!exists(account) && !exists(left))
    }

    private func purge(
        _ configuration: BackupConfiguration, now: Timestamp
    ) async throws -> (removed: [FilePath], problems: [String]) {
        let removed = Mutex<[FilePath]>([])
        let problems = try await ArchivePurge.run(configuration, now: now) { path, _ in
            removed.withLock { $0.append(path) }
        }
        return (removed.withLock(\.self), problems)
    }

    @Test("a purge continues a removal that no delete has continued for a day")
    func abandonedRemoval() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/.deleted", mode: 0o700)
        for name in [".removed-3723707-1", ".removedfile"] {
            try directory.makeDirectory(FilePath("homes/.deleted/\(name)/incoming"))
        }
        let (today, later) = (SystemWallClock().now, SystemWallClock().now + .seconds(2 * 86_400))
        for (time, names) in [(today, [".removed-3723707-1", ".removedfile"]), (later, [".removedfile"])] {
            let ended = try await purge(directory.configuration(), now: time)
            #expect(ended.problems == [] && ended.removed.isEmpty)
            let there = try FileManager.default.contentsOfDirectory(
                atPath: directory.homes.appending(".deleted").string)
            #expect(there.sorted() == names)
        }
    }

    @Test(
        "a purge keeps what is left of a removal while the account has a configuration, since the delete was withdrawn")
    func withdrawnRemoval() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/.deleted", mode: 0o700)
        let left = try directory.makeDirectory("homes/.deleted/.removed-3723707-1")
        try directory.write("snapshot", to: "homes/.deleted/.removed-3723707-1/file")
        let file = try directory.write("", to: "rsnapshot.d/3723707.conf")
        let later = SystemWallClock().now + .seconds(2 * 86_400)
        let kept = try await purge(directory.configuration(), now: later)
        #expect(kept.problems.count == 1 && kept.problems[0].contains("\(left)"), "\(kept.problems)")
        #expect(exists(left.appending("file")))
        let checked = try await directory.configuration().snapshotRequirements()
        #expect(checked.contains { !$0.isMet && $0.subject == "ON_DELETE" })
        #expect(unlink(file.string) == 0)
        #expect(try await purge(directory.configuration(), now: later).problems == [])
        #expect(!exists(left))
    }

    @Test("a purge stopped by TIMEOUT reports the remaining homes, and the next one removes them")
    func purgeTimeLimit() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/.deleted", mode: 0o700)
        let names = ["3723707-20130101T000000Z", "3723708-20130101T000000Z"]
        for name in names { try directory.makeDirectory(FilePath("homes/.deleted/\(name)/incoming")) }
        let late = try await purge(directory.configuration { $0.timeLimit = .zero }, now: now)
        #expect(late.removed.isEmpty)
        #expect(late.problems.count == names.count)
        for (problem, name) in zip(late.problems, names) {
            #expect(problem.contains("/\(name) could not be removed within TIMEOUT"), "\(problem)")
        }
        let next = try await purge(directory.configuration(), now: now)
        #expect(next.problems == [] && next.removed == names.map { directory.homes.appending(".deleted/\($0)") })
    }

    @Test("a purge removes homes older than the days they are kept, and only names that archiving has made")
    func due() {
        let names = [
            "3723707-20130720T123455Z", "3723707-20130720T123455Z-2", "3723707-20130720T123456Z",
            "3723707-20130819T123456Z",
            "3723707", "3723707-", "3723707-20130001T123455Z", "3723707-20130720T123455", "3723707-20130720T123455Z-0",
            "372370-20130720T123455Z", "lost+found", "3723707-20130720T123455Z-2-3", "03723707-20130720T123455Z",
            "3723707-20991231T000000Z",
        ]
        let due = ArchivePurge.due(names, after: 30, now: now)
        #expect(due.map(\.text) == ["3723707-20130720T123455Z", "3723707-20130720T123455Z-2"])
    }

    @Test(
        "directories of the daemon in a volume are not used if others could change a directory above them, and the command of the hint fixes it",
        arguments: ["homes", "homes/disk", "homes/disk/.deleted", "homes/disk/.store"])
    func untrustedWay(place: String) async throws {
        let directory = try TestDirectory()
        for name in [".deleted/3723707-20130101T000000Z", ".store/3723707"] {
            try directory.makeDirectory(FilePath("homes/disk/\(name)"))
        }
        for name in [".deleted", ".store"] { try directory.makeDirectory(FilePath("homes/disk/\(name)"), mode: 0o700) }
        let configuration = try directory.configuration {
            $0.places = HomePlaces(
                roots: [directory.homes],
                configuredPools: [Pool(name: "test", volumes: [directory.homes.appending("disk")])])
        }
        let path = directory.path.pushing(FilePath(place))
        #expect(chmod(path.string, 0o777) == 0)
        let purged = try await purge(configuration, now: now)
        let looked = try await SnapshotViews.look(configuration)
        #expect(purged.problems.contains { $0.contains("chmod go-w \(path)") } == !place.hasSuffix(".store"))
        #expect(looked.problems.contains { $0.contains("chmod go-w \(path)") } == !place.hasSuffix(".deleted"))
        #expect(purged.removed.isEmpty != place.hasSuffix(".store"))
        #expect(looked.unassigned.isEmpty != place.hasSuffix(".deleted"))
        #expect(chmod(path.string, 0o755) == 0)
        #expect(try await purge(configuration, now: now).problems == [])
        #expect(try await SnapshotViews.look(configuration).problems == [])
    }

    @Test("a purge removes old homes on every volume and says which")
    func purge() async throws {
        let directory = try TestDirectory()
        for name in ["homes/.deleted", "homes/disk/.deleted"] {
            try directory.makeDirectory(FilePath(name), mode: 0o700)
            try directory.makeDirectory(FilePath(name).appending("3723707-20130101T000000Z/incoming"))
            try directory.makeDirectory(FilePath(name).appending("3723707-20130818T000000Z"))
            try directory.makeDirectory(FilePath(name).appending("note"))
        }
        let configuration = try directory.configuration {
            $0.places = HomePlaces(
                roots: [directory.homes],
                configuredPools: [Pool(name: "test", volumes: [directory.homes.appending("disk")])])
        }
        let bases = [directory.homes, directory.homes.appending("disk")]
        let ended = try await purge(configuration, now: now)
        #expect(ended.problems == [])
        #expect(Set(ended.removed) == Set(bases.map { $0.appending(".deleted/3723707-20130101T000000Z") }))
        for base in bases {
            let left = try FileManager.default.contentsOfDirectory(atPath: base.appending(".deleted").string)
            #expect(left.sorted() == ["3723707-20130818T000000Z", "note"])
        }
    }
}
