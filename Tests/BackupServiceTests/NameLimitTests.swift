import Testing

@testable import BackupService

@Suite struct NameLimitTests {
    @Test("the limit of a counted tree is twice its names and a margin, for files added to an empty one")
    func counted() {
        #expect(NameLimit.counted(0).names == 100_000)
        #expect(NameLimit.counted(1_000_000).names == 2_100_000)
        #expect("\(NameLimit.counted(7))" == "100014 names (twice the 7 that were counted in it, and 100000)")
    }

    @Test(
        "the limit of uncounted trees comes from the account's largest snapshot, or is a constant"
    )
    func uncounted() {
        #expect(NameLimit.uncounted().names == 100_000_000)
        #expect(NameLimit.uncounted(3).names == 300_000_000)
        #expect(NameLimit.uncounted(10_000).names == 1_000_000_000)
        #expect(NameLimit.uncounted(2, like: 5_000_000).names == 120_000_000)
        #expect("\(NameLimit.uncounted(like: 7))".contains("ten times the 7 of the account's largest snapshot"))
    }

    @Test("the limit of all snapshots and the home is the sum of the counts, plus a number for uncounted trees")
    func account() {
        var record = SizeRecord()
        #expect(record.nameLimit(others: 3) == .unrecorded)
        for (inode, names) in [(1, 20), (2, nil), (3, 1_000_000)] as [(UInt64, UInt64?)] {
            record.add(inode: inode, bytes: 1, ownBytes: 1, names: names)
        }
        #expect(record.nameLimit(others: 3) == .counted(1_000_020) + .uncounted(4, like: 1_000_000))
        #expect(record.nameLimit(of: 2) == .uncounted(like: 1_000_000))
    }

    @Test("counts of any size do not overflow", arguments: [UInt64(1) << 40, .max])
    func large(number: UInt64) {
        #expect(NameLimit.counted(number).names == NameLimit.counted(1 << 40).names)
        #expect(NameLimit.uncounted(.max, like: number).names == 1_000_000_000)
        var record = SizeRecord()
        for inode in 1...20 as ClosedRange<UInt64> {
            record.add(inode: inode, bytes: 0, ownBytes: 0, names: number)
        }
        #expect(record.nameLimit(others: .max / 2).names > 1 << 40)
    }
}
