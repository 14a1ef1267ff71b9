import CLDAP
import DirectoryModel
import Glibc

/// Memory in C's shapes for the time of one call. Freed when it goes out of scope.
@safe struct CArena: ~Copyable {
    private var blocks: [UnsafeMutableRawPointer] = unsafe []
    /// Of the last block, what nobody has got yet.
    private var rest = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)

    /// Room for all of a usual request.
    private static let blockSize = 4096
    /// Fits every type.
    private static let alignment = 16

    deinit { unsafe blocks.forEach { unsafe $0.deallocate() } }

    /// A text that C would cut off at its NUL.
    struct ContainsNUL: Error {}

    private mutating func allocate<T>(_ count: Int, of type: T.Type) -> UnsafeMutablePointer<T> {
        let pieces = max(1, (count * MemoryLayout<T>.stride + Self.alignment - 1) / Self.alignment)
        let size = pieces * Self.alignment
        guard let place = unsafe rest.baseAddress, unsafe size <= rest.count else {
            let whole = max(size, Self.blockSize)
            let block = UnsafeMutableRawPointer.allocate(byteCount: whole, alignment: Self.alignment)
            unsafe blocks.append(block)
            unsafe rest = UnsafeMutableRawBufferPointer(start: block + size, count: whole - size)
            return unsafe block.bindMemory(to: type, capacity: count)
        }
        unsafe rest = UnsafeMutableRawBufferPointer(start: place + size, count: rest.count - size)
        return unsafe place.bindMemory(to: type, capacity: count)
    }

    /// A text with its terminating NUL.
    mutating func string(_ text: String) throws(ContainsNUL) -> UnsafeMutablePointer<CChar> {
        guard !text.utf8.contains(0) else { throw ContainsNUL() }
        var text = text
        let count = text.utf8.count
        let place = unsafe allocate(count + 1, of: CChar.self)
        text.withUTF8 { bytes in
            if let start = bytes.baseAddress { unsafe memcpy(place, start, count) }
        }
        unsafe (place + count).initialize(to: 0)
        return unsafe place
    }

    /// Bytes with their number.
    mutating func value(_ bytes: [UInt8]) -> UnsafeMutablePointer<berval> {
        let content = unsafe allocate(bytes.count, of: CChar.self)
        unsafe bytes.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress { unsafe memcpy(content, start, bytes.count) }
        }
        let value = unsafe allocate(1, of: berval.self)
        unsafe value.initialize(to: berval(bv_len: ber_len_t(bytes.count), bv_val: content))
        return unsafe value
    }

    /// An array of pointers with its terminating nil.
    mutating func list<T>(_ pointers: [UnsafeMutablePointer<T>]) -> UnsafeMutablePointer<UnsafeMutablePointer<T>?> {
        let list = unsafe allocate(pointers.count + 1, of: UnsafeMutablePointer<T>?.self)
        for place in unsafe 0..<pointers.count { unsafe (list + place).initialize(to: pointers[place]) }
        unsafe (list + pointers.count).initialize(to: nil)
        return unsafe list
    }

    /// Texts in an array.
    mutating func strings(_ texts: [String]) throws(ContainsNUL) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?> {
        var pointers: [UnsafeMutablePointer<CChar>] = unsafe []
        for text in texts { unsafe pointers.append(try string(text)) }
        return unsafe list(pointers)
    }

    /// Changes in an array (`LDAPMod`).
    mutating func modifications(
        _ changes: [(operation: Int32, attribute: String, values: [AttributeValue])]
    ) throws(ContainsNUL) -> UnsafeMutablePointer<UnsafeMutablePointer<LDAPMod>?> {
        var pointers: [UnsafeMutablePointer<LDAPMod>] = unsafe []
        for change in changes {
            var values: [UnsafeMutablePointer<berval>] = unsafe []
            for item in change.values { unsafe values.append(value(item.bytes)) }
            let place = unsafe allocate(1, of: LDAPMod.self)
            var modification = unsafe LDAPMod()
            unsafe modification.mod_op = change.operation | LDAP_MOD_BVALUES
            unsafe modification.mod_type = try string(change.attribute)
            unsafe modification.mod_vals.modv_bvals = change.values.isEmpty ? nil : list(values)
            unsafe place.initialize(to: modification)
            unsafe pointers.append(place)
        }
        return unsafe list(pointers)
    }

    /// Controls in an array.
    mutating func controls(_ controls: [Control]) throws(ContainsNUL)
        -> UnsafeMutablePointer<UnsafeMutablePointer<LDAPControl>?>
    {
        var pointers: [UnsafeMutablePointer<LDAPControl>] = unsafe []
        for control in controls {
            let place = unsafe allocate(1, of: LDAPControl.self)
            var item = unsafe LDAPControl()
            unsafe item.ldctl_oid = try string(control.identifier)
            unsafe item.ldctl_iscritical = control.isCritical ? 1 : 0
            if let bytes = control.value { unsafe item.ldctl_value = value(bytes).pointee }
            unsafe place.initialize(to: item)
            unsafe pointers.append(place)
        }
        return unsafe list(pointers)
    }
}
