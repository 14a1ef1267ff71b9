import LDAP
import Testing

@Suite("LDIF in pieces") struct LDIFChunkTests {
    private static let bad = """
        dn: cn=a
        cn:: *

         stray
        more

        dn: cn=b
        control: 1.2.3
        """

    private static let files: [String] = {
        let plain = (LDIFExamples.all + [bad]).joined(separator: "\n")
        let carriageReturns = plain.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n")
        return [plain, carriageReturns, "\u{FEFF}" + plain, plain + "\r", String(plain.dropLast(3))]
    }()

    @Test("A file gives the same records and errors however it is cut", arguments: [1, 2, 3, 7, 76, 4096])
    func pieces(_ size: Int) {
        for file in Self.files {
            let whole = readLDIF(file.utf8)
            #expect(whole.count == 17)
            #expect(readLDIF(file.utf8, pieces: size) == whole)
        }
    }

    @Test("A record is returned after its empty line, not only at the end of the file")
    func streaming() throws {
        var parser = LDIFParser(source: "test.ldif")
        parser.append("dn: cn=a\ncn: a\n".utf8)
        #expect(try parser.next() == nil)
        parser.append("\n".utf8)
        #expect(try parser.next()?.line == 1)
        #expect(try parser.next() == nil)
        parser.append("dn: cn=b".utf8)
        #expect(try parser.next() == nil)
        parser.finish()
        #expect(try parser.next()?.line == 4)
        #expect(try parser.next() == nil)
    }

    @Test("Without draining in between, the records are the same")
    func drainedLate() {
        var parser = LDIFParser(source: "test.ldif")
        for _ in 0..<100 { parser.append(LDIFExamples.twoEntries.utf8 + [10]) }
        parser.finish()
        var count = 0
        while case .some = try? parser.next() { count += 1 }
        #expect(count == 200)
    }
}
