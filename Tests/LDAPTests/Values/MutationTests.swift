import LDAP
import TestSupport
import Testing

/// Valid input, damaged at random but the same in each run: a parser may refuse it, and must not trap; what it takes,
/// it writes and reads back as the same.
@Suite("Damaged input") struct MutationTests {
    private static let names = [
        "uid=4000000,ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org",
        ##"cn=a\,b\20\C3\84 +sn=\#x,1.2.3=#0401FF,dc=net"##,
    ]

    @Test("Damaged names neither trap nor change by being written", arguments: 0..<20 as Range<UInt64>)
    func names(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        for round in 0..<200 {
            let text = random.damaged(Self.names[round % 2].utf8, with: Array("\\,+=#;\"<> 0aF\0\u{FF}".utf8))
            do throws(LDAPSyntaxError) {
                let name = try DN(parsing: String(decoding: text, as: UTF8.self))
                let again = try DN(parsing: name.description)
                #expect(again == name && again.description == name.description)
            } catch {
                #expect((1...text.count + 1).contains(error.position))
            }
        }
    }

    @Test("Damaged LDIF neither traps nor depends on the chunks", arguments: 0..<20 as Range<UInt64>)
    func ldif(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        for round in 0..<100 {
            let text = random.damaged(LDIFExamples.all[round % 7].utf8, with: Array("\n\n\r :<-#=\\0aF\0\u{FF}".utf8))
            let outcomes = readLDIF(text, limit: 900)
            #expect(outcomes == readLDIF(text, pieces: Int.random(in: 1...9, using: &random), limit: 900))
            let lines = text.count { $0 == 10 } + 1
            for outcome in outcomes {
                switch outcome {
                case .success(let record):
                    let again = readLDIF(LDIFWriter.text(for: record).utf8)
                    #expect(again.count == 1)
                    let copy = try again[0].get()
                    #expect(copy.dn == record.dn && copy.change == record.change && copy.controls == record.controls)
                case .failure(let error):
                    #expect((1...lines).contains(error.position))
                }
            }
        }
    }
}

extension SeededGenerator {
    /// The bytes with some removed, doubled, exchanged or replaced, most often by those that matter to the grammar.
    fileprivate mutating func damaged(_ bytes: some Sequence<UInt8>, with marks: [UInt8]) -> [UInt8] {
        var bytes = Array(bytes)
        for _ in 0...Int.random(in: 0...5, using: &self) where !bytes.isEmpty {
            let place = Int.random(in: 0..<bytes.count, using: &self)
            let end = min(bytes.count, place + Int.random(in: 1...9, using: &self))
            let mark = marks.randomElement(using: &self) ?? 0
            switch Int.random(in: 0..<6, using: &self) {
            case 0: bytes[place] = UInt8.random(in: 0...255, using: &self)
            case 1: bytes[place] = mark
            case 2: bytes.insert(mark, at: place)
            case 3: bytes.removeSubrange(place..<end)
            case 4: bytes.insert(contentsOf: bytes[place..<end], at: Int.random(in: 0...bytes.count, using: &self))
            default: bytes.removeSubrange(place...)
            }
        }
        return bytes
    }
}
