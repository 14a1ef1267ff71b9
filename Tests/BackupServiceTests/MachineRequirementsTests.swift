import Glibc
import SystemPackage
import Testing

@testable import BackupService

/// The requirements on disks and kernel.
@Suite struct MachineRequirementsTests {
    private typealias Room = Requirement.Room

    @Test("a hundredth of a file system must be free, but never more than 1 GiB, and never less than 16 MiB")
    func bytes() {
        #expect(Room(size: 100 << 30, free: 1 << 30).shortage == nil)
        #expect(Room(size: 100 << 30, free: (1 << 30) - 1).shortage != nil)
        #expect(Room(size: 100 << 40, free: 1 << 30).shortage == nil)
        #expect(Room(size: 32 << 20, free: 16 << 20).shortage == nil)
        #expect(Room(size: 32 << 20, free: (16 << 20) - 1).shortage != nil)
    }

    @Test("inodes must be free, if the file system counts them")
    func inodes() {
        func room(_ inodes: UInt64, _ free: UInt64) -> Room {
            Room(size: 1 << 30, free: 1 << 30, inodes: inodes, freeInodes: free)
        }
        #expect(room(100_000, 1_000).shortage == nil)
        #expect(room(100_000, 999).shortage?.contains("inodes") == true)
        #expect(room(1 << 40, 100_000).shortage == nil)
        #expect(room(0, 0).shortage == nil)
    }

    @Test("a full file system is reported, and each is examined once", .enabled(if: isRoot, "needs root"))
    func full() throws {
        let directory = try TestDirectory()
        let small = try directory.makeDirectory("small disk")
        let mount = try TestMount(at: small, options: "mode=0755,size=20m,nr_inodes=2k")
        func findings() -> [Requirement] {
            Requirement.ofMachine(places: [
                ("STATE_DIRECTORY", directory.path.appending("absent")), ("homes", small),
                ("homes", small.appending("more").appending("absent")), ("X", directory.path),
            ]).filter { $0.subject.hasPrefix("room") }
        }
        #expect(findings().map(\.subject) == ["room (STATE_DIRECTORY, X)", "room (homes)"])
        #expect(findings().map(\.isMet) == [true, true])
        let file = try directory.write("", to: "small disk/file")
        #expect(truncate(file.string, 0) == 0)
        let descriptor = open(file.string, O_WRONLY)
        #expect(posix_fallocate(descriptor, 0, 8 << 20) == 0)
        #expect(findings().map(\.isMet) == [true, false])
        #expect(findings().last?.hint?.hasSuffix("df -h '\(small)' and df -i '\(small)'") == true)
        close(descriptor)
        unlink(file.string)
        for number in 0..<1_950 { try directory.write("", to: FilePath("small disk/\(number)")) }
        #expect(findings().map(\.isMet) == [true, false])
        withExtendedLifetime(mount) {}
    }

    @Test("an unsynchronized clock is reported; in a container, or if unknown, it is a note")
    func clock() {
        #expect(Requirement.clock(.synchronized).isMet && !Requirement.clock(.synchronized).isNote)
        #expect(Requirement.clock(.unsynchronized).hint?.isEmpty == false)
        #expect(
            Requirement.clock(.container).isNote && Requirement.clock(.unknown(.notPermitted)).isNote)
    }

    @Test(
        "fs.protected_hardlinks must be 1; an unknown value is a note",
        arguments: [("1\n", true), ("0\n", false), ("2\n", false), (nil, true)] as [(String?, Bool)])
    func hardLinks(value: String?, isMet: Bool) throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("sys/fs")
        if let value { try directory.write(value, to: "sys/fs/protected_hardlinks") }
        let findings = Requirement.ofMachine(places: [], kernelSettings: directory.path.appending("sys"))
        let finding = try #require(findings.first { $0.subject == "fs.protected_hardlinks" })
        #expect(finding.isMet == isMet)
        #expect(finding.isNote == (value == nil))
    }

    @Test("this machine's clock and kernel can be examined")
    func real() {
        #expect(Requirement.ofMachine(places: []).count == 2)
    }
}
