import LDAP
import Testing

@Suite("Values") struct ValuesTests {
    @Test(
        "An attribute name is a descriptor or a dotted number, with or without options",
        arguments: [
            "cn", "CN", "a", "x-1-", "sstProvisioningMode", "2.5.4.3", "0.9", "cn;lang-de", "2.5.4.3;binary;x-1",
        ])
    func names(_ text: String) throws {
        let name = try #require(AttributeName(parsing: text))
        #expect(name.spelling == text && name.description == text)
        #expect(name.hasOptions == text.contains(";"))
        #expect(name == AttributeName(unchecked: text.uppercased()))
        #expect(name.hashValue == AttributeName(unchecked: text.uppercased()).hashValue)
    }

    @Test(
        "Anything else is refused as an attribute name",
        arguments: [
            "", "1a", "-a", "c n", "c_n", "cn;", ";cn", "cn;;x", "cn;l_d", "2..5", ".5", "5.", "ä", "cn=", "cn:", "a\n",
            "\u{212A}n",
        ])
    func noNames(_ text: String) {
        #expect(AttributeName(parsing: text) == nil)
    }

    @Test("Options distinguish attributes, their order does not")
    func options() {
        #expect(AttributeName("cn;lang-de") != AttributeName("cn"))
        #expect(AttributeName("cn;lang-de;x-a") == AttributeName("CN;X-A;Lang-DE"))
        #expect(AttributeName("cn;lang-de;x-a") != AttributeName("cn;lang-de;x-b"))
    }

    @Test("A value is bytes; it is text only when it is UTF-8")
    func values() {
        #expect(AttributeValue("ä").bytes == [0xC3, 0xA4])
        #expect(AttributeValue(bytes: [0xC3, 0xA4]).text == "ä")
        #expect(AttributeValue(bytes: [0xC3]).text == nil)
        #expect(AttributeValue("A\u{308}") != AttributeValue("Ä"))
        #expect(AttributeValue("a\n\u{0}b").description == #"a\n\0b"#)
        #expect(AttributeValue(bytes: [0xFF, 0]).description == "(2 bytes that are not text)")
    }

    @Test("An entry's attribute is found under any spelling, set, and removed by setting nothing")
    func entry() {
        var entry = Entry(
            dn: .root, attributes: [Attribute("cn", ["a", "b"]), Attribute("photo", [AttributeValue(bytes: [255])])])
        #expect(entry["CN"] == ["a", "b"])
        #expect(entry.text("Cn") == "a")
        #expect(entry.text("photo") == nil && entry.text("sn") == nil)
        #expect(entry["sn"].isEmpty)
        entry["sn"] = ["c"]
        entry["CN"] = ["d"]
        #expect(entry.attributes.map(\.name.spelling) == ["cn", "photo", "sn"])
        #expect(entry.text("cn") == "d")
        entry["cn"] = []
        entry["none"] = []
        #expect(entry.attributes.map(\.name.spelling) == ["photo", "sn"])
    }

    @Test("The named constructors of modifications set all members")
    func modifications() {
        #expect(Modification.add("cn", "a", "b") == Modification(.add, "CN", ["a", "b"]))
        #expect(Modification.delete("cn") == Modification(.delete, "cn", []))
        #expect(Modification.replace("cn", "a") == Modification(.replace, "cn", ["a"]))
        #expect(Modification.replace("cn", "a") != Modification.replace("cn", "A"))
    }

    @Test("A UUID is read from text and bytes, and written in lower case")
    func uuid() throws {
        let text = "597ae2f6-16a6-1027-98f4-d28b5365dc14"
        let uuid = try #require(EntryUUID(text: text))
        #expect(uuid.description == text)
        #expect(uuid == EntryUUID(text: text.uppercased()))
        let bytes: [UInt8] = [
            0x59, 0x7A, 0xE2, 0xF6, 0x16, 0xA6, 0x10, 0x27, 0x98, 0xF4, 0xD2, 0x8B, 0x53, 0x65, 0xDC, 0x14,
        ]
        #expect(uuid == EntryUUID(bytes: bytes[...]))
        #expect(uuid.hashValue == EntryUUID(bytes: bytes[...])?.hashValue)
        #expect(uuid != EntryUUID(bytes: bytes.reversed()[...]))
        #expect(EntryUUID(bytes: bytes.dropLast()) == nil && EntryUUID(bytes: (bytes + [0])[...]) == nil)
    }

    @Test(
        "Anything else is refused as a UUID",
        arguments: [
            "", "597ae2f6-16a6-1027-98f4-d28b5365dc1", "597ae2f6-16a6-1027-98f4-d28b5365dc1g",
            "597ae2f616a6102798f4d28b5365dc14",
            "597ae2f6-16a6-1027-98f4-d28b5365dc14-", "{597ae2f6-16a6-1027-98f4-d28b5365dc14}",
            "597ae2f6-16a6-1027-98f4-d28b5365dé1",
        ])
    func noUUID(_ text: String) { #expect(EntryUUID(text: text) == nil) }
}
