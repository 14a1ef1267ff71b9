import LDAP
import Foundation
import Glibc
import Provisioning
import SystemPackage
import Testing

@testable import BackupService

/// Two daemons that share a storage.
@Suite struct HomeLockTests {
    @Test("one daemon at a time works on a home; another home is free, and no file is left")
    func exclusive() async throws {
        let files = try TestDirectory()
        let (one, two) = (
            BackupRsnapshotService(configuration: try files.configuration()),
            BackupRsnapshotService(configuration: try files.configuration())
        )
        let directory = files.homes.appending(".locks")
        var lock = try await one.lock(files.entry())
        #expect(lock != nil)
        #expect(try await two.lock(files.entry()) == nil)
        #expect(try await two.lock(files.entry(uid: "3723708")) != nil)
        #expect(status(directory).map { $0.st_mode & 0o7777 } == 0o700)
        lock = nil
        lock = try await two.lock(files.entry())
        #expect(lock != nil)
        #expect(try await one.lock(files.entry()) == nil)
        lock = nil
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string).isEmpty)
    }

    @Test("a lock that cannot be taken is reported with its path, and no work is done without it")
    func cannot() async throws {
        let files = try TestDirectory()
        let service = BackupRsnapshotService(configuration: try files.configuration())
        symlink("/tmp", files.homes.appending(".locks").string)
        let failure = await #expect(throws: ProvisioningFailure.self) { try await service.lock(files.entry()) }
        #expect(
            failure?.failureClass == .configuration && failure?.hint.contains(".locks") == true,
            "\(String(describing: failure))")
    }

    @Test("a lock that cannot be verified is released: no descriptor stays open, and the next one gets it")
    func letGo() async throws {
        let files = try TestDirectory()
        let account = try BackupAccount(
            reading: files.entry(), for: .modify, places: files.configuration().places)
        _ = try HomeLock(of: account)
        let failure = await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                refuseToExamineNames()
                continuation.resume(
                    returning: #expect(throws: ProvisioningFailure.self) { _ = try HomeLock(of: account) })
            }
        }
        #expect(failure?.reason.contains("could not examine") == true, "\(String(describing: failure))")
        let held = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").filter {
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)"))?
                .hasPrefix(files.path.string) == true
        }
        #expect(held.isEmpty)
        #expect(try HomeLock(of: account) != nil)
    }

    /// Makes fstatat of a name in an open directory fail with EIO in this thread, as with a broken disk.
    private func refuseToExamineNames() {
        #if arch(x86_64)
            let call: UInt32 = 262
        #else
            let call: UInt32 = 79
        #endif
        // seccomp(2): each of load, compare or return, how far to jump, and a number.
        let (load, compare, end) = (UInt16(0x20), UInt16(0x15), UInt16(0x06))
        var filter: [(code: UInt16, ifTrue: UInt8, ifFalse: UInt8, value: UInt32)] = [
            (load, 0, 0, 0), (compare, 0, 5, call),
            (load, 0, 0, 16), (compare, 3, 0, UInt32(bitPattern: AT_FDCWD)),
            (load, 0, 0, 40), (compare, 0, 1, UInt32(AT_SYMLINK_NOFOLLOW)),
            (end, 0, 0, 0x0005_0000 | UInt32(EIO)), (end, 0, 0, 0x7fff_0000),
        ]
        typealias Prctl = @convention(c) (CInt, UInt, UInt, UInt, UInt) -> CInt
        let prctl = unsafeBitCast(dlsym(nil, "prctl"), to: Prctl.self)
        let (noNewPrivileges, seccomp, filterMode) = (CInt(38), CInt(22), UInt(2))
        let count = UInt16(filter.count)
        filter.withUnsafeMutableBufferPointer { start in
            var program = (count, start.baseAddress)
            #expect(prctl(noNewPrivileges, 1, 0, 0, 0) == 0)
            withUnsafePointer(to: &program) {
                #expect(prctl(seccomp, filterMode, UInt(bitPattern: $0), 0, 0) == 0)
            }
        }
    }

    @Test(
        "of several volumes the first of the settings has the lock for homes on any volume, and the others need not exist"
    )
    func volumes() async throws {
        let files = try TestDirectory()
        let (one, two) = (files.homes.appending("one"), files.homes.appending("two"))
        try files.makeDirectory("homes/one")
        let service = BackupRsnapshotService(
            configuration: try files.configuration {
                $0.places = HomePlaces(
                    layout: .hashed, roots: [files.homes], configuredPools: [Pool(name: "a", volumes: [one, two])])
            })
        let lock = try await service.lock(files.entry())
        #expect(lock != nil && exists(one.appending(".locks/3723707")))
        #expect(try await service.lock(files.entry()) == nil)
    }

    @Test("an entry without a valid home is left to the plan; a missing root is reported")
    func without() async throws {
        let files = try TestDirectory()
        var entry = files.entry()
        entry["homeDirectory"] = ["/etc/3723707"]
        let service = BackupRsnapshotService(configuration: try files.configuration())
        #expect(try await service.lock(entry) != nil)
        let missing = BackupRsnapshotService(
            configuration: try files.configuration {
                $0.places = HomePlaces(layout: .attribute, roots: [files.homes.appending("none")], configuredPools: [])
            })
        entry["homeDirectory"] = [AttributeValue("\(files.homes)/none/3723707")]
        await #expect(throws: ProvisioningFailure.self) { try await missing.lock(entry) }
    }
}
