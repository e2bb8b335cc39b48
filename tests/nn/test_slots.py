from upnext.nn.slots import slot


def test_slots_differ_and_have_no_dots():
    names = ["a.b", "a%2Eb", "a_b", "forward", "type", "", "a%b"]
    slots = [slot(name) for name in names]
    assert len(set(slots)) == len(names)
    assert not any("." in one for one in slots)
