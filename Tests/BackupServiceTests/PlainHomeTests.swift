import Foundation
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import Testing

@testable import BackupService

@Suite struct PlainHomeTests {
    @Test(
        "exhausted resources of the machine are a shortage in every step; a full quota is the account's own",
        arguments: [
            (Errno.tooManyOpenFiles, FailureClass.shortage), (.tooManyOpenFilesInSystem, .shortage),
            (.noMemory, .shortage), (.noSpace, .shortage), (.ioError, .shortage), (.readOnlyFileSystem, .shortage),
            (.diskQuotaExceeded, .retryable),
        ])
    func shortage(cause: Errno, failureClass: FailureClass) throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration()
        let account = try BackupAccount(reading: directory.entry(), for: .add, places: configuration.places)
        let home = try #require(account.homes.first)
        let failure = HeldDirectory.Failure(operation: "open", path: home.path, cause: cause)
        let disposal = HomeDisposalStep(
            account: account, home: home, disposal: .remove, timeLimit: .seconds(60), clock: SystemWallClock(),
            demandUnique: {})
        let file = ConfigurationFile(of: account.uid, configuration)
        let thrown = #expect(throws: ProvisioningFailure.self) { try file.explained("write") { throw cause } }
        let failures = [
            PlainHomeStep.explain(failure, home: home), disposal.explain(failure),
            HomeWalk.explain(failure, root: home.root),
        ]
        for failure in failures + (thrown.map { [$0] } ?? []) {
            #expect(failure.failureClass == failureClass, "\(failure)")
            // Of a shortage all accounts are told by one hint.
            #expect(failureClass != .shortage || !failure.hint.contains(account.uid), "\(failure)")
        }
        #expect(failures.map(\.code) == [.cannotCreateHomeDir, .undefinedError, .cannotCheckHomeDirPresence])
        #expect(thrown?.code == .cannotCreateRsnapshotConfiguration)
    }

    @Test("without a script the daemon makes the home itself, with safe owners and modes")
    func makes() async throws {
        // The umask is one for all tests of a process.
        await #expect(processExitsWith: .success) {
            let directory = try TestDirectory()
            umask(0o077)
            let text = directory.homes.string + "/7/707/723/3723707/chroot/./home/3723707"
            try await BackupRsnapshotService(configuration: directory.configuration()).carryOut(
                .add, accountEntry(home: text))
            let home = directory.homes.pushing("7/707/723/3723707/chroot/home/3723707")
            let own = isRoot ? 3_723_707 : geteuid()
            var expected: [(FilePath, mode_t, UInt32)] = [
                (home.appending("incoming"), 0o750, own), (home.appending(".ssh"), 0o700, own),
                (home.appending(".snapshots"), 0o755, geteuid()),
            ]
            var path = home
            while path != directory.homes {
                expected.append((path, 0o755, geteuid()))
                path.removeLastComponent()
            }
            for (path, mode, owner) in expected {
                #expect(status(path).map { $0.st_mode & 0o7777 } == mode, "\(path)")
                #expect(status(path)?.st_uid == owner, "\(path)")
            }
        }
    }

    @Test(
        "a home that is not there although its configuration names it, as on a volume that is not mounted, is not made again",
        arguments: [Provisioning.Operation.add, .modify], [false, true])
    func notMounted(operation: Provisioning.Operation, leavesMountPoint: Bool) async throws {
        let directory = try TestDirectory()
        let service = BackupRsnapshotService(configuration: try directory.configuration())
        try await service.carryOut(.add, directory.entry())
        let home = directory.homes.appending("3723707")
        let away = directory.path.appending("away")
        try #require(rename(home.string, away.string) == 0)
        if leavesMountPoint { try directory.makeDirectory("homes/3723707") }
        let before = try directory.listing()
        let failure = try #require(try await service.failure(operation, directory.entry()))
        #expect(failure.code == .cannotCheckHomeDirPresence, "\(failure)")
        let file = directory.configurations.appending("3723707.conf")
        #expect(failure.hint.contains("rm \(file)"), "\(failure)")
        #expect(try directory.listing() == before)

        // The home is lost.
        try #require(unlink(file.string) == 0)
        try await service.carryOut(operation, directory.entry())
        #expect(exists(home.appending("incoming")) && exists(file))
    }

    @Test("a home script makes no home in an empty mount point either, but may mount a disk at an empty directory")
    func notMountedWithScript() async throws {
        let directory = try TestDirectory()
        let script = try directory.script("mkdir -p \"$2\"; touch \(directory.path)/ran")
        let service = BackupRsnapshotService(configuration: try directory.configuration { $0.homeScript = script })
        try await service.carryOut(.add, directory.entry())
        let (home, mark) = (directory.homes.appending("3723707"), directory.path.appending("ran"))
        try #require(unlink(mark.string) == 0)
        try #require(rename(home.string, directory.path.appending("away").string) == 0)
        #expect(try await service.failure(.modify, directory.entry())?.code == .cannotCheckHomeDirPresence)
        #expect(!exists(home) && !exists(mark))
        try directory.makeDirectory("homes/3723707")
        try await service.carryOut(.modify, directory.entry())
        #expect(exists(mark) && exists(home.appending("incoming")))
    }

    @Test(
        "a home that was made and is to be elsewhere now is neither made again nor removed: it is moved, or given up, by the administrator",
        arguments: [true, false])
    func otherPlace(isMoved: Bool) async throws {
        let directory = try TestDirectory()
        var configuration = try directory.configuration()
        configuration.onDelete = .remove
        let service = BackupRsnapshotService(configuration: configuration)
        try await service.carryOut(.add, directory.entry())
        let (home, other) = (directory.homes.appending("3723707"), directory.homes.pushing("others/3723707"))
        let file = directory.configurations.appending("3723707.conf")
        let entry = accountEntry(home: "\(other)")
        let before = try directory.listing()
        for operation in [Provisioning.Operation.add, .modify, .delete] {
            let failure = try #require(try await service.failure(operation, entry))
            #expect(failure.code == .cannotCheckHomeDirPresence, "\(failure)")
            #expect(failure.reason.contains("\(home)") && failure.hint.contains("rm \(file)"), "\(failure)")
        }
        #expect(try directory.listing() == before)

        if isMoved {
            try directory.makeDirectory("homes/others")
            try #require(rename(home.string, other.string) == 0)
        } else {
            try #require(unlink(file.string) == 0)
        }
        try await service.carryOut(.modify, entry)
        #expect(exists(other.appending("incoming")) && exists(home) != isMoved)
        #expect(try text(file).contains("\(other)/incoming"))
    }

    @Test("another layout makes no second home inside the directory of the account, where the uploads are not")
    func otherLayout() async throws {
        let directory = try TestDirectory()
        let place = "homes/7/707/723/3723707/chroot/home/3723707"
        let entry = accountEntry(home: "\(directory.path)/\(place)".replacing("/home/", with: "/./home/"))
        try await BackupRsnapshotService(configuration: directory.configuration()).carryOut(.add, entry)
        let account = directory.path.pushing("homes/7/707/723/3723707")
        let hashed = BackupRsnapshotService(configuration: try directory.configuration { $0.places.layout = .hashed })
        #expect(try await hashed.failure(.modify, entry)?.code == .cannotCheckHomeDirPresence)
        #expect(exists(account.appending("chroot")) && !exists(account.appending("incoming")))
    }

    @Test("existing directories are not changed, and missing ones are added")
    func completes() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/3723707/incoming", mode: 0o2711)
        try directory.write("precious", to: "homes/3723707/incoming/file")
        let before = status(directory.homes.pushing("3723707/incoming"))
        try await BackupRsnapshotService(configuration: directory.configuration()).carryOut(.add, directory.entry())
        let after = status(directory.homes.pushing("3723707/incoming"))
        #expect(before?.st_mode == after?.st_mode)
        #expect(before?.st_uid == after?.st_uid)
        #expect(before?.st_ino == after?.st_ino)
        #expect(exists(directory.homes.pushing("3723707/.snapshots")))
    }

    @Test("a home that a crash has left incomplete is completed")
    func resumes() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/.new-3723707-3723707", mode: 0o700)
        try directory.makeDirectory("homes/3723707/.new-3723707-incoming", mode: 0o700)
        try await BackupRsnapshotService(configuration: directory.configuration()).carryOut(.add, directory.entry())
        let names = try FileManager.default.contentsOfDirectory(atPath: directory.homes.appending("3723707").string)
        #expect(names.sorted() == [".snapshots", ".ssh", "incoming"])
    }

    @Test(
        "a link in the place of the uploads is named with the command that moves it away", arguments: [nil, "exit 0"])
    func linkedUploads(script: String?) async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned("3723707")
            let (directory, home) = (harness.directory, harness.home("3723707"))
            let uploads = home.appending("incoming")
            #expect(rename(uploads.string, directory.path.appending("away").string) == 0)
            try directory.link("homes/3723707/incoming", to: directory.path.appending("away"))
            let command = "mv -T \(uploads) \(uploads).other"
            var configuration = harness.configuration
            configuration.homeScript = try script.map { try directory.script($0) }
            let service = BackupRsnapshotService(configuration: configuration)
            let entry = try #require(try await harness.entry("3723707"))
            let failure = try await service.failure(.modify, entry)
            #expect(
                failure?.code == .cannotCreateHomeDir && failure?.hint.contains(command) == true,
                "\(failure?.hint ?? "")")
            let found = try await harness.inspection(of: "3723707", snapshots: .own)
            #expect(found.obstacles.contains { $0.contains(command) }, "\(found.obstacles)")
            #expect(try await harness.backup(.daily, "3723707").message.contains(command))
            try await runTool("/bin/sh", "-c", command)
            try await service.carryOut(.modify, entry)
            #expect(status(uploads)?.isDirectory == true)
        }
    }

    @Test("accounts whose jobs make the same parents concurrently do not disturb each other")
    func together() async throws {
        let directory = try TestDirectory()
        let service = try BackupRsnapshotService(configuration: directory.configuration())
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                let uid = String(3_723_700 + number)
                group.addTask {
                    try await service.carryOut(
                        .add, accountEntry(home: directory.homes.string + "/a/b/c/" + uid, uid: uid))
                }
            }
            try await group.waitForAll()
        }
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: directory.homes.pushing("a/b/c").string).count == 20)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.homes.string) == ["a"])
    }

    @Test(
        "a link that replaces one of the account's directories is refused with its hint",
        arguments: ["incoming", ".ssh", ".snapshots"])
    func links(place: String) async throws {
        let directory = try TestDirectory()
        let elsewhere = try directory.makeDirectory("elsewhere", mode: 0o700)
        try directory.makeDirectory("homes/3723707")
        try directory.link(FilePath("homes/3723707/" + place), to: elsewhere)
        let before = status(elsewhere)
        let failure = try await BackupRsnapshotService(configuration: directory.configuration()).failure(
            .add, directory.entry())
        #expect(failure?.code == .cannotCreateHomeDir)
        #expect(failure.map { "\($0.reason) \($0.hint)" }?.contains(place) == true)
        #expect(try FileManager.default.contentsOfDirectory(atPath: elsewhere.string) == [])
        #expect(status(elsewhere)?.st_mode == before?.st_mode && status(elsewhere)?.st_uid == before?.st_uid)
    }

    @Test("a root may be a symbolic link")
    func linkedRoot() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("disk")
        try directory.link("link", to: directory.path.appending("disk"))
        let configuration = try directory.configuration {
            $0.places = HomePlaces(roots: [directory.path.appending("link")])
        }
        let entry = accountEntry(home: directory.path.string + "/link/3723707")
        try await BackupRsnapshotService(configuration: configuration).carryOut(.add, entry)
        #expect(exists(directory.path.pushing("disk/3723707/incoming")))
    }

    @Test("a missing root is wrong configuration, and is never made")
    func missingRoot() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration {
            $0.places = HomePlaces(roots: [directory.path.appending("absent")])
        }
        let entry = accountEntry(home: directory.path.string + "/absent/3723707")
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, entry)
        #expect(failure?.code == .cannotCheckHomeDirPresence)
        #expect(failure?.failureClass == .configuration)
        #expect(!exists(directory.path.appending("absent")))
    }

    @Test("in layout hashed an existing home is used, and the entry's homeDirectory is ignored")
    func hashed() async throws {
        let directory = try TestDirectory()
        let volumes = try ["homes/disk1", "homes/disk2"].map { try directory.makeDirectory(FilePath($0)) }
        try directory.makeDirectory("homes/disk2/7/707/723/3723707")
        let service = try BackupRsnapshotService(
            configuration: directory.configuration {
                $0.places = HomePlaces(
                    layout: .hashed, roots: [directory.homes], configuredPools: [Pool(name: "test", volumes: volumes)])
            })
        try await service.carryOut(.add, accountEntry(home: "/nowhere"))
        #expect(exists(volumes[1].pushing("7/707/723/3723707/incoming")))
        #expect(!exists(volumes[0].appending("7")))
        // The volume of the home is not mounted: it is named, and not the one for a new home.
        let (tree, away) = (volumes[1].appending("7"), directory.path.appending("away"))
        try #require(rename(tree.string, away.string) == 0)
        let missing = try #require(try await service.failure(.modify, accountEntry(home: "/nowhere")))
        #expect(missing.reason.contains("\(volumes[1])/7/707/723/3723707"), "\(missing)")
        try #require(rename(away.string, tree.string) == 0)
        let configuration = try text(directory.configurations.appending("3723707.conf"))
        #expect(configuration.contains("snapshot_root\t\(volumes[1])/7/707/723/3723707/.snapshots/\n"))

        try directory.makeDirectory("homes/disk1/7/707/723/3723707")
        #expect(try await service.failure(.add, accountEntry(home: "/nowhere"))?.code == .cannotCheckHomeDirPresence)
        // Of two volumes, that of the home is not mounted.
        for volume in volumes {
            try #require(rename(volume.appending("7").string, volume.appending("away").string) == 0)
        }
        for operation in [Provisioning.Operation.add, .modify] {
            let failure = try await service.failure(operation, accountEntry(home: "/nowhere"))
            #expect(failure?.hint.contains("rm \(directory.configurations)/3723707.conf") == true)
        }
        #expect(!volumes.contains { exists($0.appending("7")) })
        try FileManager.default.removeItem(atPath: volumes[0].string)
        let failure = try await service.failure(.add, accountEntry(home: "/nowhere"))
        #expect(failure?.failureClass == .configuration, "the home might be on the volume that is missing")
    }

    @Test("needs root: a new home goes to the volume with the most free space", .enabled(if: isRoot))
    func freeSpace() async throws {
        let directory = try TestDirectory()
        let volumes = try ["homes/full", "homes/free", "homes/small"].map { try directory.makeDirectory(FilePath($0)) }
        let mounts = try zip(volumes, ["1m", "16m", "4m"]).map {
            try TestMount(at: $0, options: "mode=0755,size=" + $1)
        }
        defer { withExtendedLifetime(mounts) {} }
        let configuration = try directory.configuration {
            $0.places = HomePlaces(
                layout: .hashed, roots: [directory.homes], configuredPools: [Pool(name: "test", volumes: volumes)])
        }
        try await BackupRsnapshotService(configuration: configuration).carryOut(.add, accountEntry(home: "/nowhere"))
        #expect(exists(volumes[1].pushing("7/707/723/3723707/incoming")))
    }

    @Test("the chosen volume gets a new home, and it is chosen for new homes only")
    func newVolume() async throws {
        let directory = try TestDirectory()
        let volumes = try ["homes/disk1", "homes/disk2"].map { try directory.makeDirectory(FilePath($0)) }
        let asked = Mutex(0)
        var service = try BackupRsnapshotService(
            configuration: directory.configuration {
                $0.places = HomePlaces(
                    layout: .hashed, roots: [directory.homes], configuredPools: [Pool(name: "test", volumes: volumes)])
            })
        service.chooseVolume = { _, _ in
            asked.withLock { count in
                count += 1
                return count == 1 ? volumes[1] : "/etc"
            }
        }
        for _ in 1...2 { try await service.carryOut(.add, accountEntry(home: "/nowhere")) }
        #expect(asked.withLock { $0 } == 1)
        #expect(exists(volumes[1].pushing("7/707/723/3723707/incoming")))
        try await service.carryOut(.add, accountEntry(home: "/nowhere", uid: "4000001"))
        #expect(volumes.contains { exists($0.pushing("1/001/000/4000001/incoming")) })
    }
}
