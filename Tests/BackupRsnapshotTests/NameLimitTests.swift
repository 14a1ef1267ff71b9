import SystemPackage
import Testing

@testable import BackupRsnapshot

@Suite struct NameLimitTests {
    @Test("a tree that was counted may have twice its names and some; also an empty one may get files")
    func counted() {
        #expect(NameLimit.counted(0).names == 100_000)
        #expect(NameLimit.counted(1_000_000).names == 2_100_000)
        #expect("\(NameLimit.counted(7))" == "100014 names (twice the 7 that were counted in it, and 100000)")
    }

    @Test("of a tree of which nothing is known the file system tells, where it counts inodes")
    func uncounted() {
        #expect(NameLimit.uncounted(inodes: 0).names == 100_000)
        #expect(NameLimit.uncounted(inodes: 50_000).names == 5_100_000)
        #expect(NameLimit.uncounted(inodes: nil).names == 1_000_000_000)
        #expect("\(NameLimit.uncounted(inodes: 3))".contains("100 for each of the 3 inodes in use"))
    }

    @Test("no number overflows, whoever says it", arguments: [UInt64(1) << 40, .max])
    func large(number: UInt64) {
        #expect(NameLimit.counted(number).names == NameLimit.counted(1 << 40).names)
        #expect(NameLimit.uncounted(inodes: number).names == NameLimit.uncounted(inodes: 1 << 40).names)
    }

    @Test("what is in use is asked of the file system that holds the tree", .enabled(if: isRoot, "needs root to mount"))
    func fileSystem() throws {
        let folder = try TestFolder()
        let small = try TestMount(at: folder.homes, options: "size=1m,nr_inodes=1000")
        let root = try HeldFolder(configured: folder.homes)
        let before = try root.nameLimit().names
        for number in 0..<10 { try folder.write("", to: FilePath("homes/\(number)")) }
        #expect(try root.nameLimit().names == before + 1_000)
        withExtendedLifetime(small) {}
    }
}
