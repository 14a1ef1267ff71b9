import DirectoryModel
import Dispatch
import EventLoop
import Foundation
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import BackupRsnapshot

/// A clock that stands still where it was put.
struct StandingClock: WallClock {
    var now: WallTime
    func sleep(until deadline: WallTime) async throws {}
}

@Suite struct HomeDisposalTests {
    @Test("while trees of other accounts are walked through for as long as they like, an account is added and modified")
    func besideWalks() async throws {
        let folder = try TestFolder()
        let gate = DispatchSemaphore(value: 0)
        let walks = 20
        // More than there are threads for them.
        for _ in 0..<walks { BlockingWork.begin(on: .walks) { gate.wait() } }
        defer { for _ in 0..<walks { gate.signal() } }
        let service = BackupRsnapshotService(configuration: try folder.configuration())
        try await service.carryOut(.add, folder.entry())
        try await service.carryOut(.modify, folder.entry())
        #expect(exists(folder.homes.pushing("3723707/incoming")))
    }

    /// 2013-08-19T12:34:56Z.
    private let now = WallTime(secondsSince1970: 1_376_915_696)

    private func service(_ folder: TestFolder, _ disposal: HomeDisposal) throws -> BackupRsnapshotService {
        try BackupRsnapshotService(
            configuration: folder.configuration { $0.onDelete = disposal }, clock: StandingClock(now: now))
    }

    private func entry(_ folder: TestFolder) -> Entry {
        accountEntry(home: folder.homes.string + "/7/707/723/3723707/chroot/./home/3723707")
    }

    /// An account with files, and with links that lead out of it.
    private func makeAccount(_ folder: TestFolder) async throws -> FilePath {
        try await service(folder, .keep).carryOut(.add, entry(folder))
        let account: FilePath = "homes/7/707/723/3723707"
        try folder.write("precious", to: "outside")
        try folder.write("upload", to: account.pushing("chroot/home/3723707/incoming/file"))
        try folder.makeFolder("others/inside")
        try folder.write("precious", to: "others/inside/file")
        try folder.link(account.pushing("chroot/home/3723707/incoming/folder"), to: folder.path.appending("others"))
        try folder.link(account.pushing("chroot/home/3723707/incoming/link"), to: folder.path.appending("outside"))
        return folder.path.pushing(account)
    }

    @Test("keep takes the configuration away and leaves the home as it is")
    func keep() async throws {
        let folder = try TestFolder()
        let account = try await makeAccount(folder)
        try await service(folder, .keep).carryOut(.delete, entry(folder))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.configurations.string) == [])
        #expect(exists(account.pushing("chroot/home/3723707/incoming/file")))
    }

    @Test(
        "archive renames the account's folder to a name of its own, also when that is taken, and repeating is harmless")
    func archive() async throws {
        let folder = try TestFolder()
        for expected in ["3723707-20130819T123456Z", "3723707-20130819T123456Z-2"] {
            let account = try await makeAccount(folder)
            let inode = status(account)?.st_ino
            for _ in 1...2 { try await service(folder, .archive).carryOut(.delete, entry(folder)) }
            #expect(!exists(account))
            #expect(status(folder.homes.appending(".deleted").appending(expected))?.st_ino == inode)
        }
        #expect(status(folder.homes.appending(".deleted")).map { $0.st_mode & 0o7777 } == 0o700)
        #expect(exists(folder.homes.pushing("7/707/723")), "folders that other accounts may share stay")
    }

    @Test(
        "a home that is another entry's by now is neither archived nor removed, and no script is run for it",
        arguments: [HomeDisposal.archive, .remove])
    func shared(disposal: HomeDisposal) async throws {
        let folder = try TestFolder()
        let account = try await makeAccount(folder)
        let mark = folder.path.appending("script-ran")
        let script = try folder.write("#!/bin/sh\ntouch \(mark)\n", to: "scripts/home.sh", mode: 0o755)
        for script in [nil, script] {
            let service = BackupRsnapshotService(
                configuration: try folder.configuration { ($0.onDelete, $0.homeScript) = (disposal, script) },
                clock: StandingClock(now: now))
            let failure = ProvisioningFailure(.undefinedError, reason: "two entries", hint: "remove one")
            let steps = try await service.plan(request(.delete, entry(folder)) { throw failure })
            let thrown = await #expect(throws: ProvisioningFailure.self) {
                for step in steps { try await step.perform(in: .alone(1, scripts: ScriptRunner())) }
            }
            #expect(thrown == failure)
            #expect(exists(account.pushing("chroot/home/3723707/incoming/file")) && !exists(mark))
        }
    }

    @Test("remove takes all of the account and nothing that its links lead to")
    func remove() async throws {
        let folder = try TestFolder()
        let account = try await makeAccount(folder)
        let before = try folder.listing().filter {
            $0.contains("outside") || $0.contains("/others") && !$0.contains("3723707")
        }
        try await service(folder, .remove).carryOut(.delete, entry(folder))
        #expect(!exists(account))
        let after = try folder.listing()
        #expect(before.allSatisfy(after.contains))
        #expect(try text(folder.path.pushing("others/inside/file")) == "precious")
        try await service(folder, .remove).carryOut(.delete, entry(folder))
    }

    @Test("needs root: what is mounted inside an account stops a removal before anything is gone", .enabled(if: isRoot))
    func mounted() async throws {
        let folder = try TestFolder()
        let account = try await makeAccount(folder)
        let target = account.pushing("chroot/home/3723707/incoming/mounted")
        try folder.makeFolder("homes/7/707/723/3723707/chroot/home/3723707/incoming/mounted")
        let mount = try TestMount(folder.path.appending("others"), at: target)
        defer { withExtendedLifetime(mount) {} }
        let service = try service(folder, .remove)
        let before = try folder.listing()
        let steps = try await service.plan(request(.delete, entry(folder)))
        var failure: ProvisioningFailure?
        do { try await steps.last?.perform(in: .alone()) } catch let error as ProvisioningFailure { failure = error }
        #expect(failure?.hint.hasPrefix("umount ") == true, "\(failure.map { "\($0)" } ?? "was removed")")
        #expect(try folder.listing() == before)

        // The walk itself does not cross the mount either.
        let parent = try HeldFolder(configured: account.removingLastComponent())
        #expect(throws: HeldFolder.Failure.self) { try TreeRemoval { false }.remove("3723707", in: parent) }
        #expect(try text(folder.path.pushing("others/inside/file")) == "precious")
    }

    @Test(
        "needs root: a home on another file system than its volume is not archived, and the reason says what to do",
        .enabled(if: isRoot))
    func otherFileSystem() async throws {
        let folder = try TestFolder()
        let mountPoint = try folder.makeFolder("homes/disk")
        let mount = try TestMount(at: mountPoint)
        defer { withExtendedLifetime(mount) {} }
        let entry = accountEntry(home: mountPoint.appending("3723707").string)
        try await service(folder, .keep).carryOut(.add, entry)
        let failure = try await service(folder, .archive).failure(.delete, entry)
        #expect(failure?.code == .undefinedError)
        #expect(failure?.hint.contains("VOLUMES") == true, "\(failure.map { "\($0)" } ?? "")")
        #expect(exists(mountPoint.appending("3723707")))

        let configuration = try folder.configuration {
            $0.places = HomePlaces(roots: [folder.homes], configuredPools: [Pool(name: "test", volumes: [mountPoint])])
            $0.onDelete = .archive
        }
        try await BackupRsnapshotService(configuration: configuration).carryOut(.delete, entry)
        #expect(!exists(mountPoint.appending("3723707")))
        #expect(exists(mountPoint.appending(".deleted")))
    }

    @Test("a deletion removes the configuration first, and a script that fails leaves the home alone")
    func order() async throws {
        let folder = try TestFolder()
        let account = try await makeAccount(folder)
        var configuration = try folder.configuration { $0.onDelete = .remove }
        configuration.homeScript = try folder.script("ls \(folder.configurations) > \(folder.path)/seen; exit 1")
        let service = BackupRsnapshotService(configuration: configuration)
        #expect(
            try await service.plan(request(.delete, entry(folder))).map(\.name) == [
                "rsnapshot configuration", "home script", "home",
            ])
        #expect(try await service.failure(.delete, entry(folder))?.code == .cannotCreateHomeDir)
        #expect(try text(folder.path.appending("seen")) == "")
        #expect(exists(account))
    }

    @Test("what TIMEOUT has cut off is removed in another attempt")
    func timeLimit() async throws {
        let folder = try TestFolder()
        let account = try await makeAccount(folder)
        let late = BackupRsnapshotService(
            configuration: try folder.configuration { ($0.onDelete, $0.timeLimit) = (.remove, .zero) })
        let failure = try #require(try await late.failure(.delete, entry(folder)))
        #expect(failure.failureClass == .retryable, "\(failure)")
        #expect(failure.reason == "\(account) could not be removed within TIMEOUT")
        #expect(exists(account))
        try await service(folder, .remove).carryOut(.delete, entry(folder))
        #expect(!exists(account))
    }

    @Test("a purge that TIMEOUT has cut off says which homes stay, and the next one takes them")
    func purgeTimeLimit() async throws {
        let folder = try TestFolder()
        try folder.makeFolder("homes/.deleted", mode: 0o700)
        let names = ["3723707-20130101T000000Z", "3723708-20130101T000000Z"]
        for name in names { try folder.makeFolder(FilePath("homes/.deleted/\(name)/incoming")) }
        let late = try await ArchivePurge(folder.configuration { $0.timeLimit = .zero }).run(now: now)
        #expect(late.purged == [])
        #expect(late.problems.count == names.count)
        for (problem, name) in zip(late.problems, names) {
            #expect(problem.contains("/\(name) could not be removed within TIMEOUT"), "\(problem)")
        }
        let next = try await ArchivePurge(folder.configuration()).run(now: now)
        #expect(next.problems == [] && next.purged.map(\.uid) == ["3723707", "3723708"])
    }

    @Test("a purge takes what is older than the days it is kept, and only names that archiving gave")
    func due() {
        var configuration = BackupConfiguration()
        configuration.purgeAfterDays = 30
        let purge = ArchivePurge(configuration)
        let names = [
            "3723707-20130720T123455Z", "3723707-20130720T123455Z-2", "3723707-20130720T123456Z",
            "3723707-20130819T123456Z",
            "3723707", "3723707-", "3723707-20130001T123455Z", "3723707-20130720T123455", "3723707-20130720T123455Z-0",
            "372370-20130720T123455Z", "lost+found", "3723707-20130720T123455Z-2-3", "03723707-20130720T123455Z",
            "3723707-20991231T000000Z",
        ]
        #expect(purge.due(names, now: now).map(\.text) == ["3723707-20130720T123455Z", "3723707-20130720T123455Z-2"])
    }

    @Test(
        "what the daemon keeps in a volume is left alone where others could change the way to it, and the command that is named fixes it",
        arguments: ["homes", "homes/disk", "homes/disk/.deleted", "homes/disk/.store"])
    func untrustedWay(place: String) async throws {
        let folder = try TestFolder()
        for name in [".deleted/3723707-20130101T000000Z", ".store/3723707"] {
            try folder.makeFolder(FilePath("homes/disk/\(name)"))
        }
        for name in [".deleted", ".store"] { try folder.makeFolder(FilePath("homes/disk/\(name)"), mode: 0o700) }
        let configuration = try folder.configuration {
            $0.places = HomePlaces(
                roots: [folder.homes], configuredPools: [Pool(name: "test", volumes: [folder.homes.appending("disk")])])
        }
        let path = folder.path.pushing(FilePath(place))
        #expect(chmod(path.string, 0o777) == 0)
        let (purge, views) = (ArchivePurge(configuration), SnapshotViews(configuration))
        let purged = try await purge.run(now: now)
        let looked = try await views.look()
        #expect(purged.problems.contains { $0.contains("chmod go-w \(path)") } == !place.hasSuffix(".store"))
        #expect(looked.problems.contains { $0.contains("chmod go-w \(path)") } == !place.hasSuffix(".deleted"))
        #expect(purged.purged.isEmpty != place.hasSuffix(".store"))
        #expect(looked.unassigned.isEmpty != place.hasSuffix(".deleted"))
        #expect(chmod(path.string, 0o755) == 0)
        #expect(try await purge.run(now: now).problems == [])
        #expect(try await views.look().problems == [])
    }

    @Test("a purge removes old homes on every volume and says which")
    func purge() async throws {
        let folder = try TestFolder()
        for name in ["homes/.deleted", "homes/disk/.deleted"] {
            try folder.makeFolder(FilePath(name), mode: 0o700)
            try folder.makeFolder(FilePath(name).appending("3723707-20130101T000000Z/incoming"))
            try folder.makeFolder(FilePath(name).appending("3723707-20130818T000000Z"))
            try folder.makeFolder(FilePath(name).appending("note"))
        }
        let configuration = try folder.configuration {
            $0.places = HomePlaces(
                roots: [folder.homes], configuredPools: [Pool(name: "test", volumes: [folder.homes.appending("disk")])])
        }
        let report = try await ArchivePurge(configuration).run(now: now)
        #expect(report.problems == [])
        #expect(report.purged.map(\.uid) == ["3723707", "3723707"])
        for base in [folder.homes, folder.homes.appending("disk")] {
            let left = try FileManager.default.contentsOfDirectory(atPath: base.appending(".deleted").string)
            #expect(left.sorted() == ["3723707-20130818T000000Z", "note"])
        }
    }
}
