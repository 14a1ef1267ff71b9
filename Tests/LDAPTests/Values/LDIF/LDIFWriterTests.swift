import LDAP
import TestSupport
import Testing

@Suite("Writing LDIF") struct LDIFWriterTests {
    private let name = DN.root.appending("dc", "net").appending("cn", "a")

    @Test("Each kind of record has its form")
    func forms() throws {
        let all: [(LDIFRecord, String)] = [
            (
                LDIFRecord(dn: name, change: .content([Attribute("cn", ["a", ""]), Attribute("sn", ["b"])])),
                "dn: cn=a,dc=net\ncn: a\ncn:\nsn: b\n\n"
            ),
            (
                LDIFRecord(dn: name, change: .add([Attribute("cn;lang-de", ["ä"])])),
                "dn: cn=a,dc=net\nchangetype: add\ncn;lang-de:: w6Q=\n\n"
            ),
            (
                LDIFRecord(
                    dn: .root.appending("ou", "Ä"), change: .delete,
                    controls: [
                        Control("1.2", isCritical: true), Control("1.3", value: Array("x".utf8)),
                        Control("1.4", value: []), Control("1.5", value: [255]),
                    ]),
                """
                dn:: b3U9w4Q=
                control: 1.2 true
                control: 1.3 false: x
                control: 1.4 false:
                control: 1.5 false:: /w==
                changetype: delete\n\n
                """
            ),
            (
                LDIFRecord(
                    dn: name,
                    change: .modify([
                        .add("cn", "b"), .delete("sn"), .replace("ou", "c", "d"), Modification(.increment, "n", ["1"]),
                    ])),
                """
                dn: cn=a,dc=net
                changetype: modify
                add: cn
                cn: b
                -
                delete: sn
                -
                replace: ou
                ou: c
                ou: d
                -
                increment: n
                n: 1
                -\n\n
                """
            ),
            (
                LDIFRecord(
                    dn: name,
                    change: .rename(newRDN: RDN("cn", "b,c"), deleteOldRDN: true, newSuperior: .root)),
                "dn: cn=a,dc=net\nchangetype: modrdn\nnewrdn: cn=b\\,c\ndeleteoldrdn: 1\nnewsuperior:\n\n"
            ),
        ]
        for (record, text) in all {
            #expect(LDIFWriter.text(for: record) == text)
            #expect(try records(text) == [record.at(line: 1)])
        }
    }

    @Test(
        "A value that LDIF cannot show plainly is in base64",
        arguments: [
            (" a", false), (":a", false), ("<a", false), ("a ", false), ("a\nb", false), ("a\rb", false),
            ("a\u{0}", false),
            ("ä", false), ("a\tb", false), ("\u{7F}", false), ("a b:c <d>", true), ("#a", true), ("-", true),
            ("a: b", true),
        ])
    func safety(_ value: String, _ isPlain: Bool) throws {
        let record = LDIFRecord(dn: name, change: .content([Attribute("x", [AttributeValue(value)])]), line: 1)
        let text = LDIFWriter.text(for: record)
        #expect(text.contains(isPlain ? "\nx: \(value)\n" : "\nx:: "))
        #expect(try records(text) == [record])
    }

    @Test("Lines are folded at 76 characters, and unfold to what they were")
    func folding() throws {
        for length in 0...400 {
            for character in ["x", " ", "ä"] {
                let value = "v" + String(repeating: character, count: length) + "v"
                let record = LDIFRecord(
                    dn: name.appending("ou", value),
                    change: .content([Attribute("description", [AttributeValue(value)])]),
                    line: 1)
                let text = LDIFWriter.text(for: record)
                #expect(text.split(separator: "\n").allSatisfy { $0.utf8.count <= 76 })
                #expect(try records(text) == [record])
            }
        }
    }

    @Test("Written records are read back unchanged", arguments: 0..<300 as Range<UInt64>)
    func roundTrip(_ seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let written = (0..<4).map { _ in random.record() }
        let text =
            LDIFWriter.versionLine + LDIFWriter.comment("seed \(seed)\r\n\nß") + written.map(LDIFWriter.text).joined()
        #expect(try records(text).map { $0.at(line: 0) } == written)
        #expect(
            text.drop { $0 != "ß" }.dropFirst().unicodeScalars.allSatisfy { $0 == "\n" || (" "..."~").contains($0) })
    }

    @Test("Comments are ignored, with any content")
    func comments() throws {
        let comment = LDIFWriter.comment("a\n\nb\r\nc\rd\n")
        #expect(comment == "# a\n#\n# b\n# c\n# d\n#\n")
        #expect(try records(comment + "dn: cn=a\n").count == 1)
    }
}

extension LDIFRecord {
    fileprivate func at(line: Int) -> LDIFRecord {
        var record = self
        record.line = line
        return record
    }
}

extension SeededGenerator {
    /// Bytes of any kind, and often those that need care.
    mutating func value() -> AttributeValue {
        let length = Int.random(in: 0...Int.random(in: 1...200, using: &self), using: &self)
        switch Int.random(in: 0..<4, using: &self) {
        case 0: return AttributeValue(bytes: (0..<length).map { _ in UInt8.random(in: 0...255, using: &self) })
        case 1: return AttributeValue(bytes: (0..<length).map { _ in UInt8.random(in: 0x20...0x7E, using: &self) })
        case 2:
            return AttributeValue(
                bytes: (0..<length).map { _ in Array(" :<#\n\r\0=-,\\+\"é".utf8).randomElement(using: &self) ?? 0 })
        default: return AttributeValue(String(repeating: "Zoë ", count: length / 8))
        }
    }

    mutating func name() -> AttributeName {
        ["cn", "sn", "add", "control", "2.5.4.3", "ou;lang-de", "userCertificate;binary", "x-a"].randomElement(
            using: &self) ?? "cn"
    }

    mutating func rdn() -> RDN {
        let others = ["cn", "uid", "1.2.3"].map {
            RDN.Assertion(AttributeName(unchecked: $0), value(), isEncoded: Bool.random(using: &self))
        }
        return Bool.random(using: &self) ? RDN("ou", value()) : RDN(others[0], Array(others.dropFirst()))
    }

    mutating func dn() -> DN { DN(rdns: (0..<Int.random(in: 0...4, using: &self)).map { _ in rdn() }) }

    mutating func attributes() -> [Attribute] {
        let names = Set((0..<5).map { _ in name() }).sorted { $0.spelling < $1.spelling }
        return names.filter { $0 != "control" }.map { name in
            Attribute(name, (0...Int.random(in: 0...3, using: &self)).map { _ in value() })
        } + [Attribute("end", ["end"])]
    }

    mutating func modification() -> Modification {
        let action: Modification.Action = [.add, .delete, .replace, .increment].randomElement(using: &self) ?? .add
        let count =
            switch action {
            case .add: Int.random(in: 1...3, using: &self)
            case .increment: 1
            case .delete, .replace: Int.random(in: 0...3, using: &self)
            }
        return Modification(action, name(), (0..<count).map { _ in value() })
    }

    mutating func record() -> LDIFRecord {
        var record = LDIFRecord(dn: dn(), change: .content(attributes()))
        switch Int.random(in: 0..<5, using: &self) {
        case 0: return record
        case 1: record.change = .add(attributes())
        case 2: record.change = .delete
        case 3: record.change = .modify((0..<Int.random(in: 0...4, using: &self)).map { _ in modification() })
        default:
            record.change = .rename(
                newRDN: rdn(), deleteOldRDN: Bool.random(using: &self),
                newSuperior: Bool.random(using: &self) ? dn() : nil)
        }
        record.controls = (0..<Int.random(in: 0...2, using: &self)).map { _ in
            Control(
                "1.2.3", isCritical: Bool.random(using: &self), value: Bool.random(using: &self) ? value().bytes : nil)
        }
        return record
    }
}
